"""Plain PyTorch: the float32 baseline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgewhisper.quantizers.files import assign, read_tensors, skeleton, write_tensors
from edgewhisper_runtime.errors import RecipeError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    from edgewhisper.quantizers.census import WeightFormat
    from edgewhisper.recipes import Recipe

DISTRIBUTIONS = ("torch", "transformers")


def quantize(model: WhisperForConditionalGeneration, recipe: Recipe) -> None:  # noqa: ARG001 # every adapter has this signature
    """Accept the recipe that quantizes nothing; raise RecipeError for any other."""
    if recipe.quantizes:
        raise RecipeError(f"{recipe.name}: the library 'pytorch' only has float32 so far.")


def save(model: WhisperForConditionalGeneration, path: Path) -> None:
    """Write the float32 tensors, the tied output layer once."""
    write_tensors(path, model.state_dict(), {})


def load(path: Path, config: WhisperConfig) -> WhisperForConditionalGeneration:
    """Build the model from the file."""
    tensors, _ = read_tensors(path)
    model = skeleton(config)
    assign(model, tensors, path)
    return model


def describe(weight: Tensor) -> WeightFormat | None:  # noqa: ARG001 # every adapter has this signature
    """No weight of the baseline is quantized."""
    return None
