"""edgewhisper evaluate."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import click

from edgewhisper.cli import options
from edgewhisper.recipes import Recipe
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.bundle import AudioContext
from edgewhisper_runtime.cli.options import Sectioned, option
from edgewhisper_runtime.cli.values import Bundle, Number


@click.command(
    "evaluate",
    cls=Sectioned,
    examples=(
        "-m whisper-base -r quanto-int8 --limit 20",
        "--bundle bundle/ --data calls.csv --strict",
        "--bundle bundle/ --condition noise=street/,snr=0:20:5",
    ),
)
@options.model(default=None)
@options.recipe("Recipe name, or path of a TOML file; fp32 by default.")
@option("Model", "--bundle", type=Bundle(), help="A bundle instead of a recipe.")
@options.evaluation
@options.rounds(2)
@option(
    "Engine",
    "--audio-context",
    type=click.Choice(get_args(AudioContext)),
    help="How much of a window is encoded; what the bundle says by default.",
)
@option(
    "Gate",
    "--max-wer-increase",
    type=Number(0),
    metavar="POINTS",
    help="The gate's limit in points, instead of the recipe's.",
)
@options.gate
@options.output("Directory for report.json, report.md and report.html.", file_okay=False)
@options.as_json("The whole report on stdout.")
@options.workspace
def command(
    workspace: Workspace,
    model: str | None,
    recipe: Recipe | None,
    bundle: Path | None,
    audio_context: AudioContext | None,
    max_wer_increase: float | None,
    output: Path | None,
    strict: bool,
    accept_not_proven: bool,
    rounds: int,
    as_json: bool,
    **evaluation: Any,
) -> None:
    """Evaluate a recipe of a model, a checkpoint, or a bundle, and compare it with fp32.

    Ends with the gate's exit code, as `build` does.
    """
    from edgewhisper import api, reports
    from edgewhisper.cli.terminal import Bars
    from edgewhisper.evaluation import gate

    if bundle is not None and recipe is not None:
        raise click.UsageError("--bundle and --recipe exclude each other.")
    chosen = options.evaluation_options(workspace, **evaluation)
    report = api.evaluate(
        model,
        recipe,
        replace(chosen, audio_context=audio_context),
        bundle=bundle,
        max_wer_increase=max_wer_increase,
        output=output,
        rounds=rounds,
        workspace=workspace,
        progress=Bars(),
        command=options.command_line(),
    )
    click.echo(json.dumps(report.to_json()) if as_json else reports.to_text(report))
    if warning := gate.enforce(report.gate, strict=strict, accept_not_proven=accept_not_proven):
        click.echo(f"warning: {warning}", err=True)
