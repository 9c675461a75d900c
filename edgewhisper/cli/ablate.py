"""edgewhisper ablate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edgewhisper.cli import options
from edgewhisper.recipes import Recipe
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.cli.options import Sectioned


@click.command(
    "ablate",
    cls=Sectioned,
    examples=(
        "-m whisper-base -r quanto-int4",
        "-m whisper-base -r onnx-int4 --data calls.csv -o parts/",
    ),
)
@options.model()
@options.recipe(
    "Recipe name, or path of a TOML file (repeatable): the precisions to try.",
    multiple=True,
    required=True,
)
@options.evaluation
@options.rounds(0)
@options.output_of_sweep
@options.as_json("All results on stdout.")
@options.workspace
def command(
    workspace: Workspace,
    model: str,
    recipe: tuple[Recipe, ...],
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
        recipe,
        options.evaluation_options(workspace, **evaluation),
        rounds=rounds,
        output=output,
        workspace=workspace,
        progress=Bars(),
        command=options.command_line(),
    )
    click.echo(json.dumps(result.to_json()) if as_json else reports.to_table(result))
