"""edgewhisper profile: the runtime's command, also with a data set."""

from __future__ import annotations

from typing import Any

import click

from edgewhisper.cli import options
from edgewhisper_runtime.cli import profile as here


@click.command("profile", params=[*here.params], help=here.help)
@options.files_of_data
@click.pass_context
def command(context: click.Context, **arguments: Any) -> None:
    """Measure as the runtime does."""
    context.invoke(here, **arguments)
