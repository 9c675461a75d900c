"""What a variant must weigh, computed from the architecture and the recipe alone."""

from __future__ import annotations

from typing import Any

from edgewhisper.recipes import Recipe
from edgewhisper.recipes.schema import Weights

FLOAT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def expected_bytes(config: dict[str, Any], recipe: Recipe) -> float:
    """Return the bytes of all weights, scales and zero points, file headers left out."""
    of_float = FLOAT_BYTES.get(recipe.weights.dtype, 4)
    size: float = of_float * _never_quantized(config)
    for part, matrices in _matrices(config).items():
        if part in recipe.scope:
            shared = part == "output" and recipe.library == "edgewhisper"
            weights = recipe.weights_of(part)
            if not shared:
                size += sum(_stored(*shape, weights, recipe.library) for shape in matrices)
        elif part != "output":  # tied to the embedding
            size += of_float * sum(a * b for a, b in matrices)
    return size


def exported_bytes(config: dict[str, Any], recipe: Recipe, of_float: int) -> float:
    """Return the bytes of the same recipe exported to ONNX, names and operators left out.

    What is not quantized takes `of_float` bytes a value: OpenAI's weights are float16 values.
    """
    size: float = of_float * _never_quantized(config)
    for part, matrices in _matrices(config).items():
        count, outputs = sum(a * b for a, b in matrices), sum(a for a, _ in matrices)
        weights = recipe.weights_of(part)
        shared = part == "output" and recipe.library == "edgewhisper"
        if part not in recipe.scope:
            size += of_float * count if part != "output" else 0
        elif weights.granularity == "per-channel" and not shared:
            size += count + 4 * outputs
        elif not shared:  # of a group: a float16 scale and half a byte of zero point
            size += count * weights.bits / 8 + 2.5 * count / weights.group_size
    return size


def _matrices(config: dict[str, Any]) -> dict[str, list[tuple[int, int]]]:
    """Return the shapes of each part's weights, outputs first."""
    width, vocabulary = config["d_model"], config["vocab_size"]
    shapes: dict[str, list[tuple[int, int]]] = {
        "output": [(vocabulary, width)],
        "embedding": [(vocabulary, width)],
        "convolution": [(width, 3 * config["num_mel_bins"]), (width, 3 * width)],
    }
    for half, attentions in (("encoder", 1), ("decoder", 2)):
        count, hidden = config[f"{half}_layers"], config[f"{half}_ffn_dim"]
        square = (width, width)
        shapes[f"{half}.qkv"] = [square] * (3 * count)
        shapes[f"{half}.out_proj"] = [square] * (attentions * count)
        if half == "decoder":  # queries of the cross-attention; keys and values
            shapes["decoder.qkv"] += [square] * count
            shapes["decoder.cross_kv"] = [square] * (2 * count)
        shapes[f"{half}.fc1"] = [(hidden, width)] * count
        shapes[f"{half}.fc2"] = [(width, hidden)] * count
    return shapes


def _never_quantized(config: dict[str, Any]) -> int:
    """Return how many values are in biases, norms and positions."""
    width = config["d_model"]
    positions = config["max_source_positions"] + config["max_target_positions"]
    count = (2 + positions) * width  # the convolutions' biases, too
    for half, attentions in (("encoder", 1), ("decoder", 2)):
        # Biases of q, v and out (k has none) and of the feed-forward; norms, two tensors each.
        biases = 3 * width * attentions + config[f"{half}_ffn_dim"] + width
        layers = config[f"{half}_layers"]
        count += layers * (biases + 2 * width * (attentions + 1)) + 2 * width
    return count


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
