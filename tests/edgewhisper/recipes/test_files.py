"""Recipe files: those that ship, a user's own, and one made from another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgewhisper.recipes import all_recipes, find_file, find_recipe
from edgewhisper.recipes.measured import read
from edgewhisper_runtime.errors import RecipeError


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="could not be read"):
        find_recipe(str(tmp_path / "absent.toml"))
    (tmp_path / "bad.toml").write_text("name = ")
    with pytest.raises(RecipeError, match="not valid TOML"):
        find_recipe(str(tmp_path / "bad.toml"))
    with pytest.raises(RecipeError, match=r"no recipe 'quanto-int9'\. Did you mean quanto-int"):
        find_recipe("quanto-int9")


def test_a_recipe_made_from_another(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('base = "onnx-int8"\nname = "own"\nmax_wer_increase = 0.2\n')
    assert find_recipe(str(own)) == replace(
        find_recipe("onnx-int8"), name="own", max_wer_increase=0.2
    )
    (tmp_path / "upon.toml").write_text(
        'base = "./own.toml"\nname = "upon"\n[weights]\ngranularity = "per-tensor"\n'
    )
    upon = find_recipe(str(tmp_path / "upon.toml"))
    assert (upon.weights.dtype, upon.weights.granularity) == ("int8", "per-tensor")
    assert upon.max_wer_increase == 0.2


def test_a_base_is_looked_for_beside_the_recipe_that_names_it(tmp_path: Path) -> None:
    for place, limit in (("", 1.0), ("below", 0.3)):
        (tmp_path / place).mkdir(exist_ok=True)
        (tmp_path / place / "base.toml").write_text(
            f'base = "onnx-int8"\nname = "base"\nmax_wer_increase = {limit}\n'
        )
    (tmp_path / "below" / "upon.toml").write_text('base = "./base.toml"\nname = "upon"\n')
    own = tmp_path / "own.toml"
    own.write_text('base = "below/upon.toml"\nname = "own"\n')
    assert find_recipe(str(own)).max_wer_increase == 0.3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('base = "./own.toml"\nname = "own"\n', "in a circle"),
        ('base = "onnx-int8"\n', "needs a name of its own"),
        ('base = 8\nname = "own"\n', "base is the name or path"),
        ('base = "onnx-int"\nname = "own"\n', "Did you mean onnx-int"),
    ],
)
def test_what_no_recipe_can_be_made_of(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(RecipeError, match=message):
        find_recipe(str(tmp_path / "own.toml"))


def test_the_text_of_a_recipe_is_a_recipe(tmp_path: Path) -> None:
    for recipe in all_recipes():
        copy = tmp_path / f"{recipe.name}.toml"
        copy.write_text(find_file(recipe.name).read_text())
        assert find_recipe(str(copy)) == recipe


def test_the_measured_figures_are_of_recipes_that_ship() -> None:
    assert set(read().rows) <= {recipe.name for recipe in all_recipes()}
