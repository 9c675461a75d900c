"""Recipes: what is done to a model, as data."""

from edgewhisper.recipes.files import (
    BASELINE,
    RECOMMENDED,
    all_recipes,
    check_names,
    find_file,
    find_recipe,
)
from edgewhisper.recipes.schema import Recipe, Scheme, Weights

__all__ = [
    "BASELINE",
    "RECOMMENDED",
    "Recipe",
    "Scheme",
    "Weights",
    "all_recipes",
    "check_names",
    "find_file",
    "find_recipe",
]
