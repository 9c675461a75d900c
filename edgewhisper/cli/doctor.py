"""edgewhisper doctor."""

from __future__ import annotations

import click

from edgewhisper.cli import options
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.cli.options import Sectioned


@click.command("doctor", cls=Sectioned, examples=("", "--json"))
@options.as_json("A list of objects.")
@options.workspace
def command(workspace: Workspace, as_json: bool) -> int:
    """Tell what this machine can run and how well, each problem with its remedy.

    Ends with exit code 1 if there are problems.
    """
    from edgewhisper.doctor import examine
    from edgewhisper_runtime.cli.doctor import report

    return report(examine(workspace), as_json)
