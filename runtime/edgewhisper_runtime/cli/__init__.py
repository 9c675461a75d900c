"""The device's command line, one module per command; `edgewhisper` carries the same commands."""

from __future__ import annotations

import sys
from io import StringIO
from typing import NoReturn

import click

from edgewhisper_runtime.__main__ import INTERRUPTED, take_interrupts
from edgewhisper_runtime.cli import options, streams
from edgewhisper_runtime.cli.doctor import command as doctor
from edgewhisper_runtime.cli.info import command as info
from edgewhisper_runtime.cli.profile import command as profile
from edgewhisper_runtime.cli.serve import command as serve
from edgewhisper_runtime.cli.transcribe import command as transcribe
from edgewhisper_runtime.cli.verify import command as verify
from edgewhisper_runtime.errors import printable
from edgewhisper_runtime.memory import return_large_blocks


@click.group(
    cls=options.Group,
    examples=("transcribe talk.wav -m bundle/", "profile bundle/", "transcribe --help"),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="edgewhisper-runtime")
def group(debug: bool) -> None:
    """Run, verify and profile EdgeWhisper bundles on this machine."""


for _command in (doctor, info, profile, serve, transcribe, verify):
    group.add_command(_command)


def run(command: click.Group, name: str) -> NoReturn:
    """Run the command line; every error ends in one line on stderr and its own exit code."""
    take_interrupts()  # a package's program begins here
    return_large_blocks()
    streams.prepare()
    sys.exit(streams.finish(_exit_code(command, name)))


def _exit_code(command: click.Group, name: str) -> int:
    try:
        result = command.main(prog_name=name, standalone_mode=False)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except click.ClickException as error:
        shown = StringIO()
        error.show(shown)
        message = "\n".join(map(printable, shown.getvalue().split("\n")))
        click.echo(message, nl=False, err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        streams.say("interrupted; what was finished is kept.")
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 # it is reported
        return streams.report(error)
    return result if isinstance(result, int) else 0


def main() -> NoReturn:
    """Run `edgewhisper-runtime`."""
    run(group, "edgewhisper-runtime")
