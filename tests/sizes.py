"""What a variant must weigh, computed from the architecture and the recipe alone."""

from __future__ import annotations

from typing import Any

from edgewhisper.recipes import Recipe
from edgewhisper.recipes.schema import Weights
from edgewhisper.recipes.sizes import matrices_of, unquantized_values

FLOAT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def expected_bytes(config: dict[str, Any], recipe: Recipe) -> float:
    """Return the bytes of all weights, scales and zero points, file headers left out."""
    of_float = FLOAT_BYTES.get(recipe.weights.dtype, 4)
    size: float = of_float * unquantized_values(config)
    for part, matrices in matrices_of(config).items():
        if part in recipe.scope:
            shared = part == "output" and recipe.library == "edgewhisper"
            weights = recipe.weights_of(part)
            if not shared:
                size += sum(_stored(*shape, weights, recipe.library) for shape in matrices)
        elif part != "output":  # tied to the embedding
            size += of_float * sum(a * b for a, b in matrices)
    return size


def _stored(outputs: int, inputs: int, weights: Weights, library: str) -> float:
    count = outputs * inputs
    if weights.granularity == "per-tensor":
        return count + 8
    if weights.granularity == "per-channel":
        asymmetric = weights.method == "asymmetric"
        return count + outputs * (8 if library == "pytorch" or asymmetric else 4)
    groups = count / weights.group_size
    if weights.double_quantized:
        return count / 2 + groups * (1 + 4 / 256)
    bits = 3.2 if (library, weights.dtype) == ("hqq", "int3") else weights.bits  # ten in 32
    of_group = {"hqq": 8, "bitsandbytes": 4, "edgewhisper": 3}  # scales and zero points
    if library == "quanto":
        return count * bits / 8 + groups * 8
    return count * bits / 8 + groups * of_group[library]
