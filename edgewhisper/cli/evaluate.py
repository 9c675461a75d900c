"""edgewhisper evaluate."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from edgewhisper.cli import options
from edgewhisper_runtime.errors import DataError


@click.command("evaluate")
@options.model(default=None)
@click.option("--recipe", "recipe_name", help="Recipe name or TOML file; fp32 by default.")
@click.option("--bundle", type=click.Path(path_type=Path), help="A bundle instead of a recipe.")
@options.evaluation
@click.option("--json", "as_json", is_flag=True, help="The whole report on stdout.")
def command(
    model: str | None,
    recipe_name: str | None,
    bundle: Path | None,
    as_json: bool,
    **evaluation: Any,
) -> None:
    """Evaluate a recipe of a model, a checkpoint, or a bundle, and compare it with fp32."""
    from edgewhisper import checkpoints, pipeline, reports
    from edgewhisper.home import home
    from edgewhisper.recipes import Recipe, find_recipe
    from edgewhisper_runtime.bundle import read_manifest, verify

    if bundle is not None and recipe_name is not None:
        raise click.UsageError("--bundle and --recipe exclude each other.")
    if bundle is not None:
        manifest = verify(bundle)
        recipe = Recipe.from_record(manifest.recipe, bundle)
        chosen = options.evaluation_options(**evaluation)
        checkpoint = checkpoints.resolve(model or manifest.model.name)
        if checkpoint.weights != manifest.model.weights:
            raise DataError(
                f"{bundle} was made from other weights than {checkpoint.path} holds, so there is "
                "no baseline. Name its checkpoint with --model."
            )
        variant = bundle
    else:
        recipe = find_recipe(recipe_name or "fp32")
        chosen = options.evaluation_options(**evaluation)
        checkpoint = checkpoints.resolve(model or options.DEFAULT_MODEL)
        variant = pipeline.stage(checkpoint, recipe, chosen.dataset.root)
    baseline = pipeline.stage(checkpoint, find_recipe("fp32"))
    report = pipeline.compare(baseline, variant, recipe.max_wer_increase, chosen)
    report["command"] = shlex.join(["edgewhisper", *sys.argv[1:]])
    where = reports.write(report, home() / "reports" / f"{read_manifest(variant).name}.evaluate")
    click.echo(json.dumps(report) if as_json else reports.to_text(report))
    click.echo(f"report: {where / 'report.html'}", err=True)
