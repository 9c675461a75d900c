"""edgewhisper recipes."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from edgewhisper.cli.table import aligned

if TYPE_CHECKING:
    from edgewhisper.recipes import Recipe


@click.command("recipes")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Every key of every recipe.")
def command(name: str | None, as_json: bool) -> None:
    """List the recipes, or show all of one: NAME, or the path of a TOML file."""
    from edgewhisper.quantizers import unavailable
    from edgewhisper.recipes import all_recipes, find_recipe
    from edgewhisper_exporters import eligibility
    from edgewhisper_exporters.eligibility import why_not

    def described(recipe: Recipe) -> dict[str, Any]:
        content = asdict(recipe)
        return content | {
            f"no_{name}_because": why_not(content, name) for name in eligibility.names()
        }

    if name is not None:
        click.echo(json.dumps(described(find_recipe(name)), indent=None if as_json else 2))
        return
    recipes = all_recipes()
    if as_json:
        click.echo(json.dumps([described(recipe) for recipe in recipes]))
        return
    rows = [
        (
            "recipe", "library", "weights", "activations", "WER limit", "usable here",
            "what it does", *(f"{export} export" for export in eligibility.names()),
        )
    ]  # fmt: skip
    for recipe in recipes:
        formats = [recipe.weights, *(override.weights for override in recipe.overrides)]
        weights = " and ".join(f"{w.dtype} {w.grain}".removesuffix(" none") for w in formats)
        rows.append(
            (
                recipe.name,
                recipe.library,
                weights,
                f"{recipe.activations.dtype} {recipe.scheme}".removesuffix(" none"),
                f"+{recipe.max_wer_increase:g}",
                "yes" if (why := unavailable(recipe.library)) is None else f"no: {why}",
                recipe.summary,
                *(
                    "yes"
                    if (reason := why_not(asdict(recipe), export)) is None
                    else f"no: {reason}"
                    for export in eligibility.names()
                ),
            )
        )
    click.echo(aligned(rows))
