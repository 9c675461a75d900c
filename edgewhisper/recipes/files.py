"""Recipes as TOML files: those that ship, a user's own, and one made from another."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgewhisper.recipes.schema import Recipe
from edgewhisper_runtime.bundle import to_json
from edgewhisper_runtime.errors import RecipeError, suggest

BASELINE = "fp32"  # the recipe that every other is compared with
RECOMMENDED = "onnx-int8"  # the recipe of `build` and of every example
_RECIPES = Path(__file__).parent  # each recipe in a file of its name
_BASE = "base"
_MOST_BASES = 8  # one upon the other: more are a circle


def all_recipes() -> list[Recipe]:
    """Return the recipes that come with EdgeWhisper, the baseline first."""
    recipes = [_recipe(path) for path in sorted(_RECIPES.glob("*.toml"))]
    return sorted(recipes, key=lambda r: (r.name != BASELINE, r.quantizes, r.name))


def find_recipe(name: str) -> Recipe:
    """Return a recipe by name, or by the path of a TOML file; raise RecipeError.

    A file with `base = "NAME"` holds only what differs from that recipe: its name and the keys to
    replace, one by one in a table, as a whole in a list.
    """
    return _recipe(find_file(name))


def find_file(name: str, beside: Path = Path()) -> Path:
    """Return the TOML file of a recipe that is named as for `find_recipe`; raise RecipeError.

    A relative path is relative to the directory `beside`.
    """
    if name.endswith(".toml") or "/" in name:
        return beside / name
    path = _RECIPES / f"{name}.toml"
    if not path.is_file():
        names = [file.stem for file in _RECIPES.glob("*.toml")]
        hint = suggest(name, names, "`edgewhisper recipes --all` lists them.")
        raise RecipeError(
            f"there is no recipe {name!r}. {hint} A recipe of your own is named by the path of its "
            ".toml file."
        )
    return path


def check_names(recipes: Sequence[Recipe]) -> None:
    """Raise RecipeError unless recipes that are compared with fp32 all have other names.

    Results and directories are named after them. One made in Python is checked as a file's is.
    """
    baseline = find_recipe(BASELINE)
    others = [recipe for recipe in recipes if recipe != baseline]
    names = [baseline.name, *(recipe.name for recipe in others)]
    for recipe in others:
        if names.count(recipe.name) > 1:
            raise RecipeError(
                f"two recipes are called {recipe.name}; the baseline is called {BASELINE}. Rename "
                "one."
            )
        Recipe.from_dict(to_json(recipe), recipe.name)


def _recipe(path: Path) -> Recipe:
    file, content = path, _read(path)
    for _ in range(_MOST_BASES):
        if _BASE not in content:
            return Recipe.from_dict(content, str(path))
        base = content.pop(_BASE)
        if not isinstance(base, str):
            raise RecipeError(f"{file}: base is the name or path of a recipe, not {base!r}.")
        if "name" not in content:
            raise RecipeError(f"{path}: a recipe made from {base} needs a name of its own.")
        file = find_file(base, file.parent)
        content = _merged(_read(file), content)
    raise RecipeError(f"{path}: its recipes are made from each other in a circle.")


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with the values of `own`; a table in both is merged likewise."""
    merged = base | own
    for key, value in own.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            merged[key] = _merged(base[key], value)
    return merged


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"the recipe {path} could not be read ({error}).") from error
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"the recipe {path} is not valid TOML ({error}).") from error
