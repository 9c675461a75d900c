"""edgewhisper build."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import click

from edgewhisper.cli import options
from edgewhisper_exporters.eligibility import Format
from edgewhisper_runtime.errors import RecipeError

if TYPE_CHECKING:
    from edgewhisper.recipes import Recipe


@click.command("build")
@options.model()
@click.option("--recipe", "recipe_name", required=True, help="Recipe name, or path of a TOML file.")
@options.evaluation
@click.option(
    "--export",
    "wanted",
    type=click.Choice(["auto", *get_args(Format), "none"]),
    default="auto",
    show_default=True,
    help="What ships: onnx, which runs without PyTorch; pytorch, which runs on PyTorch alone; "
    "none, the variant itself, for the host toolkit; auto, the first of these that the recipe has.",
)
@click.option("--output", type=click.Path(path_type=Path), help="Where to install the bundle.")
@click.option("--strict", is_flag=True, help="Fail when the data is too little to prove the gate.")
@click.option("--json", "as_json", is_flag=True, help="The whole report on stdout.")
def command(
    model: str,
    recipe_name: str,
    wanted: str,
    output: Path | None,
    strict: bool,
    as_json: bool,
    **evaluation: Any,
) -> None:
    """Quantize a model, compare its WER with fp32, and install a bundle if the gate allows it."""
    from edgewhisper import checkpoints, pipeline, quantizers, reports
    from edgewhisper.recipes import find_recipe

    recipe = find_recipe(recipe_name)
    # What cannot be done must not show after a long download.
    if output is not None:
        pipeline.check_target(output)
    to_format = _format(recipe, wanted, evaluation["device"])
    quantizers.adapter(recipe.library)
    chosen = options.evaluation_options(**evaluation)
    checkpoint = checkpoints.resolve(model)
    command_line = shlex.join(["edgewhisper", *sys.argv[1:]])
    variant, report = pipeline.measure(checkpoint, recipe, chosen, command_line, to_format)
    click.echo(json.dumps(report) if as_json else reports.to_text(report))
    bundle = pipeline.install(variant, report, output, strict)
    click.echo(f"bundle: {bundle}", err=as_json)
    for wheel in bundle.glob("*.whl"):
        click.echo(f"to run it elsewhere: pip install {wheel}", err=True)


def _format(recipe: Recipe, wanted: str, device: str) -> Format | None:
    """Return what ships; raise RecipeError for what the recipe or the device does not allow."""
    from edgewhisper_exporters import eligibility

    if wanted == "none":
        return None
    if wanted == "auto":
        found = eligibility.leanest(asdict(recipe)) if device == "cpu" else None
        click.echo(f"export: {found or 'none, the bundle is for the host toolkit'}", err=True)
        return found
    if device != "cpu":
        raise RecipeError(
            f"exports run on the CPU, and are evaluated as they run; --device {device} was asked "
            "for. Use --export none there."
        )
    to_format = cast("Format", wanted)
    eligibility.check(asdict(recipe), to_format)
    return to_format
