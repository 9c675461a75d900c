"""Whisper's encoder as a graph: log-mel features in, every decoder layer's cross-attention out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgewhisper_exporters.layers import Grid, Layer, Model
from edgewhisper_exporters.onnx.common import add_and_norm, bias, floats, norm, numbers
from edgewhisper_exporters.onnx.graph import Graph
from edgewhisper_exporters.onnx.linear import Arithmetic, Encoder

_ENCODER, _DECODER = "model.encoder", "model.decoder"


def build(model: Model, arithmetic: Arithmetic) -> Graph:
    """Return the graph.

    Input: features float32 [batch, mels, frames], frames even and at most 3000. Outputs, for each
    decoder layer: cross_key_N and cross_value_N float32 [batch, heads, frames / 2, width of a
    head], so that they are computed once for a window, not at each token.
    """
    graph = Graph("encoder")
    linear = Encoder(graph, arithmetic)
    first = model.layers[f"{_ENCODER}.conv1"]
    weight = first.weight.codes if isinstance(first.weight, Grid) else first.weight
    width, inputs = len(weight), int(np.prod(weight.shape[1:]))
    features = graph.input("features", np.float32, ["batch", inputs // 3, "frames"])
    hidden = _convolve(graph, linear, features, model, "conv1", 1)
    hidden = _convolve(graph, linear, hidden, model, "conv2", 2)
    hidden = graph.op("Add", hidden, _positions(graph, model, hidden))
    normed = norm(graph, model, f"{_ENCODER}.layers.0.self_attn_layer_norm", hidden)
    count = len(numbers(model, _ENCODER))
    for number in range(count):
        name = f"{_ENCODER}.layers.{number}"
        following = (
            f"{_ENCODER}.layers.{number + 1}.self_attn_layer_norm"
            if number + 1 < count
            else f"{_ENCODER}.layer_norm"
        )
        attended = _attention(linear, model, f"{name}.self_attn", normed)
        out, fc1, fc2 = (f"{name}.{layer}" for layer in ("self_attn.out_proj", "fc1", "fc2"))
        projected = _product(linear, model, out, attended)
        normed, hidden = add_and_norm(
            graph, model, out, projected, hidden, f"{name}.final_layer_norm", few=False
        )
        grown = _product(linear, model, fc1, normed)
        grown = graph.fused("BiasGelu", grown, bias(graph, model, fc1))
        shrunk = _product(linear, model, fc2, grown)
        normed, hidden = add_and_norm(graph, model, fc2, shrunk, hidden, following, few=False)
    rows = linear.rows(normed)
    heads = model.heads[1]
    split = graph.constant("split_heads", np.array([0, 0, heads, width // heads]))
    for number in numbers(model, _DECODER):
        for part, projection in (("key", "k_proj"), ("value", "v_proj")):
            name = f"{_DECODER}.layers.{number}.encoder_attn.{projection}"
            projected = linear.linear(rows, name, model.layers[name])
            projected = graph.op("Reshape", projected, split)
            output = f"cross_{part}_{number}"
            graph.op("Transpose", projected, perm=[0, 2, 1, 3], output=output)
            graph.output(output, output, ["batch", heads, "positions", width // heads])
    return graph


def _convolve(
    graph: Graph, linear: Encoder, values: str, model: Model, name: str, stride: int
) -> str:
    """Return gelu(convolution of width 3), rows float32 [batch, frames / stride, outputs].

    A quantized convolution multiplies rows of three frames side by side, as only matrices have fast
    integer kernels. `conv1` takes [batch, inputs, frames], `conv2` rows.
    """
    layer = model.layers[f"{_ENCODER}.{name}"]
    weight = layer.weight
    shift = bias(graph, model, f"{_ENCODER}.{name}")
    if not isinstance(weight, Grid):
        if name != "conv1":
            values = graph.op("Transpose", values, perm=[0, 2, 1])
        kernel = graph.floats(f"{_ENCODER}.{name}.weight", weight)
        convolved = graph.op(
            "Conv", values, kernel, shift, kernel_shape=[3], pads=[1, 1], strides=[stride]
        )
        return graph.op("Transpose", graph.op("Gelu", convolved), perm=[0, 2, 1])
    if name == "conv1":
        values = graph.op("Transpose", values, perm=[0, 2, 1])
    pads = graph.constant("one_frame_each_end", np.array([0, 1, 0, 0, 1, 0]))
    padded = graph.op("Pad", values, pads)
    # [outputs, inputs, width] flattened: beside each other must stand the frames, then the inputs
    last = graph.constant("last_axis", np.array([-1]))
    frames = []
    for offset in range(3):
        end = offset - 2 or np.iinfo(np.int64).max
        bounds = [
            graph.constant(f"slice_{part}_{value}", np.array([value]))
            for part, value in (("start", offset), ("end", end), ("axis", 1), ("step", stride))
        ]
        frames.append(graph.op("Slice", padded, *bounds))
    if weight.scale.shape[1] == 1:
        side_by_side = graph.op("Concat", *frames, axis=-1)
        outputs = len(weight.codes)
        codes = weight.codes.reshape(outputs, -1, 3).transpose(0, 2, 1).reshape(outputs, -1)
        weight = replace(weight, codes=codes)
    else:  # groups run along inputs and width as they are stored
        stacked = graph.op("Concat", *[graph.op("Unsqueeze", f, last) for f in frames], axis=-1)
        side_by_side = graph.op("Reshape", stacked, graph.constant("flat", np.array([0, 0, -1])))
    rows = linear.rows(side_by_side)
    product = linear.linear(rows, f"{_ENCODER}.{name}", Layer(weight))
    return graph.fused("BiasGelu", product, shift)


def _positions(graph: Graph, model: Model, hidden: str) -> str:
    """Return the position embeddings of the frames that there are."""
    table = floats(model, f"{_ENCODER}.embed_positions")
    frames = graph.op("Shape", hidden, start=1, end=2)
    zero, step = (
        graph.constant(f"slice_{p}_{v}", np.array([v])) for p, v in (("start", 0), ("step", 1))
    )
    axis = graph.constant("first_axis", np.array([0]))
    return graph.op("Slice", graph.floats(f"{_ENCODER}.positions", table), zero, frames, axis, step)


def _attention(linear: Encoder, model: Model, name: str, normed: str) -> str:
    rows = linear.rows(normed)
    parts = [
        linear.linear(rows, f"{name}.{part}", model.layers[f"{name}.{part}"])
        for part in ("q_proj", "k_proj", "v_proj")
    ]
    return linear.graph.fused("MultiHeadAttention", *parts, num_heads=model.heads[0])


def _product(linear: Encoder, model: Model, name: str, values: str) -> str:
    return linear.linear(linear.rows(values), name, model.layers[name], bias=False)
