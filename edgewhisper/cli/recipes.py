"""edgewhisper recipes."""

from __future__ import annotations

import json
from dataclasses import asdict

import click


@click.command("recipes")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Every key of every recipe.")
def command(name: str | None, as_json: bool) -> None:
    """List the recipes, or show all of one: NAME, or the path of a TOML file."""
    from edgewhisper.recipes import all_recipes, find_recipe

    if name is not None:
        click.echo(json.dumps(asdict(find_recipe(name)), indent=None if as_json else 2))
        return
    recipes = all_recipes()
    if as_json:
        click.echo(json.dumps([asdict(recipe) for recipe in recipes]))
        return
    rows = [("recipe", "library", "weights", "activations", "WER limit", "exports", "what it does")]
    for recipe in recipes:
        weights = f"{recipe.weights.dtype} {recipe.weights.granularity}".removesuffix(" none")
        rows.append(
            (
                recipe.name,
                recipe.library,
                weights,
                recipe.activations.dtype,
                f"+{recipe.max_wer_increase:g}",
                ", ".join(recipe.exports) or "none",
                recipe.summary,
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
