"""edgewhisper sweep."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from edgewhisper.cli import options
from edgewhisper_runtime.errors import RecipeError


@click.command("sweep")
@options.model()
@click.option(
    "--recipe",
    "names",
    multiple=True,
    help="Recipe name, or path of a TOML file (repeatable); every recipe that ships by default.",
)
@click.option("--library", "libraries", multiple=True, help="Only recipes of this library.")
@options.evaluation
@options.rounds(2)
@options.output
@click.option("--json", "as_json", is_flag=True, help="All results on stdout.")
def command(
    model: str,
    names: tuple[str, ...],
    libraries: tuple[str, ...],
    rounds: int,
    output: Path | None,
    as_json: bool,
    **evaluation: Any,
) -> None:
    """Compare many recipes of one model: WER, size, speed and memory, in one table and plot.

    What was done before is not done again; a recipe that fails is a row that says why.
    """
    from edgewhisper import checkpoints, reports, sweep
    from edgewhisper.home import home
    from edgewhisper.recipes import all_recipes, find_recipe

    recipes = [find_recipe(name) for name in names] or all_recipes()
    recipes = [
        recipe
        for recipe in recipes
        if recipe != find_recipe("fp32") and (not libraries or recipe.library in libraries)
    ]
    if not recipes:
        raise RecipeError(
            "no recipe is left besides fp32, the baseline; see `edgewhisper recipes`."
        )
    chosen = options.evaluation_options(**evaluation)
    checkpoint = checkpoints.resolve(model)
    where = output or home() / "sweeps" / checkpoint.name
    command_line = shlex.join(["edgewhisper", *sys.argv[1:]])
    plan = sweep.Plan(checkpoint, recipes, chosen, rounds, command_line)
    result = sweep.sweep(plan, where)
    click.echo(json.dumps(result) if as_json else reports.to_table(result))
    click.echo(f"results: {where}", err=True)
