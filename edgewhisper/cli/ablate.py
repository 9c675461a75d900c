"""edgewhisper ablate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edgewhisper.cli import options
from edgewhisper.workspace import Workspace


@click.command("ablate")
@options.model()
@click.option(
    "--recipe",
    "names",
    multiple=True,
    required=True,
    help="Recipe name, or path of a TOML file (repeatable): the precisions to try.",
)
@options.evaluation
@options.rounds(0)
@options.output
@click.option("--json", "as_json", is_flag=True, help="All results on stdout.")
@options.workspace
def command(
    workspace: Workspace,
    model: str,
    names: tuple[str, ...],
    rounds: int,
    output: Path | None,
    as_json: bool,
    **evaluation: Any,
) -> None:
    """Find out which part of the model bears a recipe's precision: one part at a time.

    Every part in the recipe's scope is quantized alone, then the encoder and the decoder.
    """
    from edgewhisper import api, reports
    from edgewhisper.cli.terminal import Bars

    result = api.ablate(
        model,
        names,
        options.evaluation_options(workspace, **evaluation),
        rounds=rounds,
        output=output,
        workspace=workspace,
        progress=Bars(),
        command=options.command_line(),
    )
    click.echo(json.dumps(result.to_json()) if as_json else reports.to_table(result))
