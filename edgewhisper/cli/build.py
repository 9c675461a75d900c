"""edgewhisper build."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from edgewhisper.cli import options


@click.command("build")
@options.model()
@click.option("--recipe", "recipe_name", required=True, help="Recipe name, or path of a TOML file.")
@options.evaluation
@click.option(
    "--export",
    "export_format",
    type=click.Choice(["auto", "onnx", "none"]),
    default="auto",
    show_default=True,
    help="What ships: ONNX, which runs without PyTorch; none, the PyTorch variant; auto, ONNX if "
    "the recipe can be exported.",
)
@click.option("--output", type=click.Path(path_type=Path), help="Where to install the bundle.")
@click.option("--strict", is_flag=True, help="Fail when the data is too little to prove the gate.")
@click.option("--json", "as_json", is_flag=True, help="The whole report on stdout.")
def command(
    model: str,
    recipe_name: str,
    export_format: str,
    output: Path | None,
    strict: bool,
    as_json: bool,
    **evaluation: Any,
) -> None:
    """Quantize a model, compare its WER with fp32, and install a bundle if the gate allows it."""
    from edgewhisper import checkpoints, pipeline, quantizers, reports
    from edgewhisper.recipes import find_recipe
    from edgewhisper_exporters import eligibility

    recipe = find_recipe(recipe_name)
    reason = eligibility.why_not(asdict(recipe))
    if export_format == "auto" and reason:
        click.echo(f"no ONNX export: {reason}; the bundle will need PyTorch", err=True)
    exported = export_format == "onnx" or (export_format == "auto" and not reason)
    quantizers.adapter(recipe.library)  # a missing library must not show after a long download
    chosen = options.evaluation_options(**evaluation)
    checkpoint = checkpoints.resolve(model)
    command_line = shlex.join(["edgewhisper", *sys.argv[1:]])
    variant, report = pipeline.measure(checkpoint, recipe, chosen, command_line, exported)
    click.echo(json.dumps(report) if as_json else reports.to_text(report))
    bundle = pipeline.install(variant, report, output, strict)
    click.echo(f"bundle: {bundle}", err=as_json)
