"""Parts that the encoder's and the decoder's graphs share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgewhisper_exporters.layers import Model
    from edgewhisper_exporters.onnx.graph import Graph
    from edgewhisper_exporters.onnx.linear import Arithmetic

_LARGEST_CODE = 127
_TINIEST = np.float32(1e-12)  # the step of zeros
_EPSILON = 1e-5  # of Whisper's layer norms


def numbers(model: Model, half: str) -> range:
    """Return the numbers of the layers of "model.encoder" or "model.decoder"."""
    start = f"{half}.layers."
    indices = {
        int(n.removeprefix(start).split(".")[0]) for n in model.layers if n.startswith(start)
    }
    return range(len(indices))


def floats(model: Model, name: str) -> NDArray[np.floating]:
    """Return the weight of a layer that no recipe quantizes."""
    weight = model.layers[name].weight
    if not isinstance(weight, np.ndarray):
        raise TypeError(f"{name} is quantized")
    return weight


def bias(graph: Graph, model: Model, name: str) -> str:
    """Return a layer's bias; raise TypeError where it has none."""
    layer = model.layers[name]
    if layer.bias is None:
        raise TypeError(f"{name} has no bias")
    return graph.floats(f"{name}.bias", layer.bias)


def norm(graph: Graph, model: Model, name: str, values: str) -> str:
    """Return the layer norm of values [..., width]."""
    gain = graph.floats(f"{name}.weight", floats(model, name))
    shift = bias(graph, model, name)
    return graph.op("LayerNormalization", values, gain, shift, axis=-1, epsilon=_EPSILON)


def cross_type(arithmetic: Arithmetic) -> type[np.int8 | np.float32]:
    """Return the type of the audio's keys and values: int8 where the products are.

    Each step of the decoder reads them all.
    """
    return np.int8 if arithmetic == "int8" else np.float32


def step_of_codes(graph: Graph, largest: str) -> str:
    """Return the value of one step of int8 codes where 127 steps are the `largest` magnitude."""
    largest = graph.op("Max", largest, graph.constant("tiniest", _TINIEST))
    return graph.op("Mul", largest, graph.constant("row_step", np.float32(1 / _LARGEST_CODE)))


def add_and_norm(
    graph: Graph, model: Model, layer: str, product: str, residual: str, following: str, few: bool
) -> tuple[str, str]:
    """Add a layer's bias and the residual to its product; return the sum's norm, and the sum.

    With `few` rows this is one fused operator. With many, that is several times slower than its
    parts, measured on 1500 rows of 512.
    """
    if not few:
        shifted = graph.op("Add", product, bias(graph, model, layer))
        total = graph.op("Add", shifted, residual)
        return norm(graph, model, following, total), total
    normed, total = f"{following}.normed", f"{layer}.sum"
    graph.fused(
        "SkipLayerNormalization",
        product,
        residual,
        graph.floats(f"{following}.weight", floats(model, following)),
        bias(graph, model, following),
        bias(graph, model, layer),
        output=[normed, "", "", total],
        epsilon=_EPSILON,
    )
    return normed, total
