"""edgewhisper sweep."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edgewhisper.cli import options
from edgewhisper.workspace import Workspace


@click.command("sweep")
@options.model()
@click.option(
    "--recipe",
    "names",
    multiple=True,
    help="Recipe name, or path of a TOML file (repeatable); every recipe that ships by default.",
)
@click.option("--library", "libraries", multiple=True, help="Only recipes of this library.")
@options.evaluation
@options.rounds(2)
@options.output
@click.option("--json", "as_json", is_flag=True, help="All results on stdout.")
@options.workspace
def command(
    workspace: Workspace,
    model: str,
    names: tuple[str, ...],
    libraries: tuple[str, ...],
    rounds: int,
    output: Path | None,
    as_json: bool,
    **evaluation: Any,
) -> None:
    """Compare many recipes of one model: WER, size, speed and memory, in one table and plot.

    What was done before is not done again; a recipe that fails is a row that tells why.
    """
    from edgewhisper import api, reports
    from edgewhisper.cli.terminal import Bars

    result = api.sweep(
        model,
        names,
        options.evaluation_options(workspace, **evaluation),
        libraries=libraries,
        rounds=rounds,
        output=output,
        workspace=workspace,
        progress=Bars(),
        command=options.command_line(),
    )
    click.echo(json.dumps(result.to_json()) if as_json else reports.to_table(result))
