"""Recipes: what is done to a model, as data."""

from edgewhisper.recipes.schema import Recipe, Scheme, Weights, all_recipes, find_recipe

__all__ = ["Recipe", "Scheme", "Weights", "all_recipes", "find_recipe"]
