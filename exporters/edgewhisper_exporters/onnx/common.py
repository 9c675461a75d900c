"""Parts that the encoder's and the decoder's graphs share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgewhisper_exporters.layers import Model
    from edgewhisper_exporters.onnx.graph import Graph

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
