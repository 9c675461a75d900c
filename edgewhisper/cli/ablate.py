"""edgewhisper ablate."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from edgewhisper.cli import options


@click.command("ablate")
@options.model()
@click.option(
    "--recipe",
    "names",
    multiple=True,
    required=True,
    help="Recipe name, or path of a TOML file (repeatable): the precisions to try.",
)
@options.evaluation
@options.rounds(0)
@options.output
@click.option("--json", "as_json", is_flag=True, help="All results on stdout.")
def command(
    model: str,
    names: tuple[str, ...],
    rounds: int,
    output: Path | None,
    as_json: bool,
    **evaluation: Any,
) -> None:
    """Find out which part of the model bears a recipe's precision: one part at a time.

    Every part in the recipe's scope is quantized alone, then the encoder and the decoder.
    """
    from edgewhisper import checkpoints, reports, sweep
    from edgewhisper.home import home
    from edgewhisper.recipes import find_recipe

    recipes = [alone for name in names for alone in find_recipe(name).one_part_at_a_time()]
    chosen = options.evaluation_options(**evaluation)
    checkpoint = checkpoints.resolve(model)
    where = output or home() / "ablations" / checkpoint.name
    command_line = shlex.join(["edgewhisper", *sys.argv[1:]])
    plan = sweep.Plan(checkpoint, recipes, chosen, rounds, command_line)
    result = sweep.sweep(plan, where)
    click.echo(json.dumps(result) if as_json else reports.to_table(result))
    click.echo(f"results: {where}", err=True)
