"""edgewhisper profile: the runtime's command, also with a data set, and on another device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from edgewhisper.cli import options as shared
from edgewhisper_runtime.cli.options import Sectioned, option
from edgewhisper_runtime.cli.profile import command as here
from edgewhisper_runtime.cli.profile import show

_HERE_ONLY = {"bundle", "files", "as_json", "output"}  # the rest is passed on to the device


@click.command(
    "profile",
    cls=Sectioned,
    params=[*here.params],
    help=here.help,
    examples=(
        "bundle/",
        "bundle/ --data calls.csv --repeat 5 -o profile.json",
        "bundle/ --on pi@raspberrypi",
    ),
)
@shared.files_of_data
@option("Device", "--on", metavar="USER@HOST", help="Measure on this device instead, over ssh.")
@option(
    "Device",
    "--keep",
    belongs_to="--on",
    is_flag=True,
    help="Leave on the device what was copied, for the next run.",
)
@option(
    "Device",
    "--ssh-option",
    "ssh_options",
    belongs_to="--on",
    multiple=True,
    metavar="NAME=VALUE",
    help="Option of ssh (repeatable), such as Port=2222; else ~/.ssh/config holds.",
)
@click.pass_context
def command(
    context: click.Context,
    on: str | None,
    keep: bool,
    ssh_options: tuple[str, ...],
    bundle: Path,
    **options: Any,
) -> None:
    """Measure as the runtime does, on this machine or on another."""
    if on is None:
        context.invoke(here, bundle=bundle, **options)
        return

    from edgewhisper.cli.terminal import Bars
    from edgewhisper.devices import remote

    arguments = [
        argument
        for parameter in here.params
        if parameter.name not in _HERE_ONLY
        # the language may be that of --data
        and (parameter.name == "language" or _was_typed(parameter, context))
        for argument in _typed(parameter, options[str(parameter.name)])
    ]
    report = remote.profile(
        bundle,
        on,
        options["files"],
        arguments,
        ssh_options=ssh_options,
        keep=keep,
        progress=Bars(unit="B"),
    )
    show(report, options["output"], as_json=options["as_json"])


def _was_typed(parameter: click.Parameter, context: click.Context) -> bool:
    return context.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE


def _typed(parameter: click.Parameter, value: Any) -> list[str]:
    """Return an option as it is typed."""
    if isinstance(parameter, click.Option) and parameter.is_flag:
        return [parameter.opts[0] if value else parameter.secondary_opts[0]]
    text = "auto" if parameter.name == "language" and value is None else str(value)
    return [parameter.opts[0], text]
