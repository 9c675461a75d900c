"""edgewhisper sweep."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edgewhisper.cli import options
from edgewhisper.recipes import Recipe
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.cli.options import Sectioned, option


@click.command(
    "sweep",
    cls=Sectioned,
    examples=(
        "-m whisper-base --limit 20",
        "-m whisper-base -r onnx-int8 -r onnx-int4 -o sweep/",
        "-m whisper-base --library hqq --data calls.csv",
    ),
)
@options.model()
@options.recipe(
    "Recipe name, or path of a TOML file (repeatable); every recipe that ships by default.",
    multiple=True,
)
@option(
    "Model",
    "--library",
    "libraries",
    multiple=True,
    type=options.LibraryType(),
    help="Only recipes of this library (repeatable).",
)
@options.evaluation
@options.rounds(2)
@options.output_of_sweep
@options.as_json("All results on stdout.")
@options.workspace
def command(
    workspace: Workspace,
    model: str,
    recipe: tuple[Recipe, ...],
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
        recipe,
        options.evaluation_options(workspace, **evaluation),
        libraries=libraries,
        rounds=rounds,
        output=output,
        workspace=workspace,
        progress=Bars(),
        command=options.command_line(),
    )
    click.echo(json.dumps(result.to_json()) if as_json else reports.to_table(result))
