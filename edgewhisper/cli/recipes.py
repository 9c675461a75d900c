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
    click.echo(
        f"{'recipe':<16}{'library':<10}{'weights':<22}{'WER limit':<11}{'exports':<9}what it does"
    )
    for recipe in recipes:
        weights = f"{recipe.weights.dtype} {recipe.weights.granularity}".removesuffix(" none")
        exports = ", ".join(recipe.exports) or "none"
        click.echo(
            f"{recipe.name:<16}{recipe.library:<10}{weights:<22}"
            f"+{recipe.max_wer_increase:<10g}{exports:<9}{recipe.summary}"
        )
