"""Recipes: what is done to a model, as data."""

from edgewhisper.recipes.files import RECOMMENDED, all_recipes, find_file, find_recipe
from edgewhisper.recipes.schema import Recipe, Scheme, Weights

__all__ = [
    "RECOMMENDED",
    "Recipe",
    "Scheme",
    "Weights",
    "all_recipes",
    "find_file",
    "find_recipe",
]
