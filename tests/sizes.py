"""What a variant must weigh, computed from the architecture and the recipe alone."""

from __future__ import annotations

from typing import Any

from edgewhisper.recipes import Recipe
from edgewhisper.recipes.schema import Weights

FLOAT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def expected_bytes(config: dict[str, Any], recipe: Recipe) -> float:
    """Return the bytes of all weights, scales and zero points, file headers left out."""
    width, vocabulary = config["d_model"], config["vocab_size"]
    layers = {"encoder": config["encoder_layers"], "decoder": config["decoder_layers"]}
    widths = {"encoder": config["encoder_ffn_dim"], "decoder": config["decoder_ffn_dim"]}
    shapes: dict[str, list[tuple[int, int]]] = {
        "output": [(vocabulary, width)],
        "embedding": [(vocabulary, width)],
        "convolution": [(width, 3 * config["num_mel_bins"]), (width, 3 * width)],
    }
    other = 2 * width  # the convolutions' biases
    other += (config["max_source_positions"] + config["max_target_positions"]) * width
    for half, count in layers.items():
        attentions = 1 if half == "encoder" else 2
        shapes[f"{half}.attention"] = [(width, width)] * (4 * attentions * count)
        shapes[f"{half}.fc1"] = [(widths[half], width)] * count
        shapes[f"{half}.fc2"] = [(width, widths[half])] * count
        # Biases of q, v and out (k has none) and of the feed-forward; norms, two tensors each.
        biases = 3 * width * attentions + widths[half] + width
        other += count * (biases + 2 * width * (attentions + 1)) + 2 * width

    size = FLOAT_BYTES.get(recipe.weights.dtype, 4) * other
    for part, matrices in shapes.items():
        if part in recipe.scope:
            shared = part == "output" and recipe.library == "edgewhisper"
            weights = recipe.weights_of(part)
            if not shared:
                size += sum(_stored(*shape, weights, recipe.library) for shape in matrices)
        elif part != "output":  # tied to the embedding
            size += FLOAT_BYTES.get(recipe.weights.dtype, 4) * sum(a * b for a, b in matrices)
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
    bits = 3.2 if weights.dtype == "int3" else weights.bits  # ten in 32 bits
    of_group = {"hqq": 8, "bitsandbytes": 4, "edgewhisper": 3}  # scales and zero points
    if library == "quanto":
        return count * bits / 8 + groups * 8
    return count * bits / 8 + groups * of_group[library]
