"""edgewhisper recipes."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from edgewhisper.cli.table import aligned


@click.command("recipes")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Every key of every recipe.")
def command(name: str | None, as_json: bool) -> None:
    """List the recipes, or show all of one: NAME, or the path of a TOML file."""
    from edgewhisper.quantizers import unavailable
    from edgewhisper.recipes import all_recipes, find_recipe

    if name is not None:
        click.echo(json.dumps(asdict(find_recipe(name)), indent=None if as_json else 2))
        return
    recipes = all_recipes()
    if as_json:
        click.echo(json.dumps([asdict(recipe) for recipe in recipes]))
        return
    rows = [
        ("recipe", "library", "weights", "activations", "WER limit", "usable here", "what it does")
    ]
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
            )
        )
    click.echo(aligned(rows))
