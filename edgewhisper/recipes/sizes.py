"""The size of an export, computed from the architecture and the recipe alone."""

from __future__ import annotations

from typing import Any

from edgewhisper.recipes.schema import Recipe, Weights

_SCALE = {"edgewhisper": 2.0}  # bytes of a group's scale; 4 with other libraries
# Libraries whose zero points are no integers: exports add a float32 offset of a group instead.
_FLOAT_ZEROS = ("hqq", "quanto")


def exported_bytes(config: dict[str, Any], recipe: Recipe, float_bytes: int = 2) -> float:
    """Return the bytes of a recipe exported to ONNX, without names and operators.

    `config` is the checkpoint's config.json. A value that is not quantized takes `float_bytes`: 2
    in OpenAI's checkpoints, whose values are all float16 numbers; 4 at most.
    """
    parts = (part_bytes(config, recipe, part, float_bytes) for part in matrices_of(config))
    return float_bytes * unquantized_values(config) + sum(parts)


def part_bytes(config: dict[str, Any], recipe: Recipe, part: str, float_bytes: int = 2) -> float:
    """Return the bytes of a part's weights; 0 for an output layer that is tied to the embedding."""
    if part == "output" and (part not in recipe.scope or recipe.library == "edgewhisper"):
        return 0.0
    matrices = matrices_of(config)[part]
    if part not in recipe.scope:
        return float_bytes * sum(outputs * inputs for outputs, inputs in matrices)
    weights = recipe.weights_of(part)
    return sum(_stored(*shape, weights, recipe.library) for shape in matrices)


def matrices_of(config: dict[str, Any]) -> dict[str, list[tuple[int, int]]]:
    """Return the shapes [outputs, inputs] of each part's weights."""
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


def unquantized_values(config: dict[str, Any]) -> int:
    """Return how many values are in biases, norms and positions."""
    width = config["d_model"]
    positions = config["max_source_positions"] + config["max_target_positions"]
    count = (2 + positions) * width  # the convolutions' biases, too
    for half, attentions in (("encoder", 1), ("decoder", 2)):
        # Biases of q, v and out (k has none) and of the feed-forward; norms, two tensors each.
        biases = 3 * width * attentions + config[f"{half}_ffn_dim"] + width
        layers = config[f"{half}_layers"]
        count += layers * (biases + 2 * width * (attentions + 1)) + 2 * width
    return int(count)


def _stored(outputs: int, inputs: int, weights: Weights, library: str) -> float:
    """Return the bytes of a matrix: codes, scales, zero points."""
    count = outputs * inputs
    if weights.granularity == "per-channel":
        return count + 4 * outputs
    if library in _FLOAT_ZEROS:
        of_zero = 4.0
    elif weights.method == "symmetric":
        of_zero = 0.0
    else:  # the kernels' bits: those that multiply 3 bits read 4
        of_zero = (4 if weights.dtype == "int3" else weights.bits) / 8
    of_group = _SCALE.get(library, 4.0) + of_zero
    return count * weights.bits / 8 + of_group * count / weights.group_size
