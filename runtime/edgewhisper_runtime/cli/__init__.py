"""The device's command line, one module per command; `edgewhisper` carries the same commands."""

from __future__ import annotations

import sys
from io import StringIO
from typing import NoReturn

import click

from edgewhisper_runtime.cli.info import command as info
from edgewhisper_runtime.cli.profile import command as profile
from edgewhisper_runtime.cli.serve import command as serve
from edgewhisper_runtime.cli.transcribe import command as transcribe
from edgewhisper_runtime.cli.verify import command as verify
from edgewhisper_runtime.errors import EdgeWhisperError, StorageError, printable
from edgewhisper_runtime.memory import return_large_blocks

INTERRUPTED = 130  # 128 + SIGINT, as shells do
INTERNAL_ERROR = 70  # EX_SOFTWARE of sysexits.h


@click.group()
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="edgewhisper-runtime")
def group(debug: bool) -> None:
    """Run, verify and profile EdgeWhisper bundles on this machine."""


for _command in (info, profile, serve, transcribe, verify):
    group.add_command(_command)


def run(command: click.Group, name: str) -> NoReturn:
    """Run the command line; every error ends in one line on stderr and its own exit code."""
    debug = "--debug" in sys.argv
    return_large_blocks()
    try:
        result = command.main(prog_name=name, standalone_mode=False)
        sys.exit(result if isinstance(result, int) else 0)
    except click.ClickException as error:
        shown = StringIO()
        error.show(shown)
        click.echo("\n".join(map(printable, shown.getvalue().split("\n"))), nl=False, err=True)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; what was finished is kept.", err=True)
        sys.exit(INTERRUPTED)
    except Exception as error:
        if debug:
            raise
        if isinstance(error, EdgeWhisperError):
            click.echo(f"error: {error}", err=True)
            sys.exit(error.exit_code)
        if isinstance(error, OSError):  # the system refused: a full disk, a permission
            where = error.filename or "no file"
            click.echo(printable(f"error: {error.strerror or error}: {where}"), err=True)
            sys.exit(StorageError.exit_code)
        message = f"error: unexpected {type(error).__name__}: {error}. This is a defect; "
        click.echo(printable(f"{message}`{name} --debug ...` shows where."), err=True)
        sys.exit(INTERNAL_ERROR)


def main() -> NoReturn:
    """Entry point of `edgewhisper-runtime`."""
    run(group, "edgewhisper-runtime")
