"""edgewhisper build."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgewhisper.cli import options
from edgewhisper.recipes import RECOMMENDED, Recipe
from edgewhisper.workspace import Workspace
from edgewhisper_exporters import eligibility
from edgewhisper_runtime.cli.options import Sectioned, option

if TYPE_CHECKING:
    from edgewhisper.reports import Report


@click.command(
    "build",
    cls=Sectioned,
    examples=(
        "-m whisper-base",
        "-m path/to/fine-tune --data calls.csv --language de",
        "-m whisper-base -r own.toml -o whisper-base-own/",
    ),
)
@options.model()
@options.recipe("Recipe name, or path of a TOML file.", default=RECOMMENDED, show_default=True)
@options.evaluation
@options.rounds(2)
@option(
    "Model",
    "--export",
    "to_format",
    type=click.Choice(["auto", *eligibility.names(), "none"]),
    default="auto",
    show_default=True,
    help="What ships: onnx, which runs without PyTorch; pytorch, which runs on PyTorch alone; "
    "none, the variant itself, for the host toolkit; auto, the first of these that the recipe has.",
)
@options.gate
@options.output("Where to install the bundle.")
@options.as_json("The whole report on stdout.")
@options.workspace
def command(
    workspace: Workspace,
    model: str,
    recipe: Recipe,
    to_format: str,
    output: Path | None,
    strict: bool,
    accept_not_proven: bool,
    rounds: int,
    as_json: bool,
    **evaluation: Any,
) -> None:
    """Quantize a model, compare its WER with fp32, and install a bundle if the gate allows it."""
    from edgewhisper import api, reports
    from edgewhisper.cli.terminal import Bars, show_bundle

    def show(report: Report) -> None:
        click.echo(json.dumps(report.to_json()) if as_json else reports.to_text(report))

    built = api.build(
        model,
        recipe,
        options.evaluation_options(workspace, **evaluation),
        export=to_format,
        output=output,
        rounds=rounds,
        strict=strict,
        accept_not_proven=accept_not_proven,
        workspace=workspace,
        progress=Bars(),
        on_report=show,
        command=options.command_line(),
    )
    show_bundle(built.bundle.path, as_json=as_json)
