"""edgewhisper recipes."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from edgewhisper.cli.options import LibraryType
from edgewhisper.cli.table import aligned
from edgewhisper_runtime.cli import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgewhisper.recipes import Recipe
    from edgewhisper.recipes.measured import Row

_PLACES = {"onnx": "anywhere", "pytorch": "PyTorch"}  # where an export runs
_HOST = "this toolkit"


@click.command(
    "recipes",
    cls=options.Sectioned,
    examples=("", "--all --library hqq", "onnx-int8 --toml > own.toml"),
)
@click.argument("name", required=False)
@options.option("List", "--library", type=LibraryType(), help="Only recipes of this library.")
@options.option(
    "List", "--all", "everything", is_flag=True, help="Also those that failed the gate."
)
@options.option(
    "One recipe", "--toml", "as_toml", is_flag=True, help="Its file, as `build --recipe` reads it."
)
@options.option("Output", "--json", "as_json", is_flag=True, help="Every key of every recipe.")
def command(
    name: str | None, library: str | None, everything: bool, as_toml: bool, as_json: bool
) -> None:
    """List the recipes, or show all of one: NAME, or the path of a TOML file."""
    from edgewhisper.recipes import all_recipes, find_file, find_recipe
    from edgewhisper.recipes.measured import read

    if name is None and as_toml:
        raise click.UsageError("--toml shows one recipe: name it.")
    if name is not None:
        recipe = find_recipe(name)
        if as_toml:
            click.echo(find_file(name).read_text(encoding="utf-8"), nl=False)
        else:
            click.echo(json.dumps(_described(recipe), indent=None if as_json else 2))
        return
    recipes = [r for r in all_recipes() if library is None or r.library == library]
    if as_json:
        click.echo(json.dumps([_described(recipe) for recipe in recipes]))
        return
    measured = read()
    failed = {name for name, row in measured.rows.items() if row.verdict == "failed"}
    shown = [recipe for recipe in recipes if everything or recipe.name not in failed]
    click.echo(_table(shown, measured.rows))
    click.echo(
        "\n* recommended. WER: points more than float32; time: as a share of float32's. Of\n"
        f"{measured.model}, {measured.data}."
    )
    if hidden := len(recipes) - len(shown):
        click.echo(f"{hidden} more failed the gate: `edgewhisper recipes --all`.")


def _described(recipe: Recipe) -> dict[str, Any]:
    from edgewhisper_exporters import eligibility

    content = asdict(recipe)
    return content | {
        f"no_{name}_because": eligibility.why_not(content, name) for name in eligibility.names()
    }


def _table(recipes: Sequence[Recipe], measured: dict[str, Row]) -> str:
    from edgewhisper.quantizers import unavailable
    from edgewhisper.recipes import RECOMMENDED

    rows = [("recipe", "MB", "WER", "gate", "time", "runs on")]
    for recipe in recipes:
        row = measured.get(recipe.name)
        missing = unavailable(recipe.library) is not None
        rows.append(
            (
                recipe.name + (" *" if recipe.name == RECOMMENDED else ""),
                f"{row.weight_bytes / 1e6:.0f}" if row else "-",
                f"{row.wer_increase:+.2f}" if row else "-",
                "baseline" if recipe.name == "fp32" else row.verdict if row else "-",
                f"{row.speed:.2f}" if row and row.speed is not None else "-",
                f"needs {recipe.library}" if missing else _place(recipe),
            )
        )
    return aligned(rows)


def _place(recipe: Recipe) -> str:
    from edgewhisper_exporters import eligibility

    content = asdict(recipe)
    exports = (name for name in eligibility.names() if eligibility.why_not(content, name) is None)
    return next((_PLACES.get(name, name) for name in exports), _HOST)
