"""Whisper's encoder as a graph: log-mel features in, every decoder layer's cross-attention out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgewhisper_exporters.layers import Grid, Layer, Model
from edgewhisper_exporters.onnx.common import (
    add_and_norm,
    bias,
    cross_type,
    floats,
    norm,
    numbers,
    step_of_codes,
)
from edgewhisper_exporters.onnx.graph import Graph
from edgewhisper_exporters.onnx.linear import Arithmetic, Encoder

_ENCODER, _DECODER = "model.encoder", "model.decoder"
_FEW_ROWS = 32


def build(model: Model, arithmetic: Arithmetic) -> Graph:
    """Return the graph.

    Input: features float32 [batch, mels, frames], frames even and at most 3000. Outputs, for each
    decoder layer: cross_key_N and cross_value_N [batch, heads, frames / 2, width of a head], so
    that they are computed once for a window, not at each token. They are float32, or int8 codes
    with the value of a code's step in cross_steps float32 [batch, 2 * layers, width]: of keys and
    values in turn, one for each channel of a window.
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
        grown = _gelu(graph, grown, bias(graph, model, fc1))
        shrunk = _product(linear, model, fc2, grown)
        normed, hidden = add_and_norm(graph, model, fc2, shrunk, hidden, following, few=False)
    _cross_attention(linear, model, normed, width)
    return graph


def _cross_attention(linear: Encoder, model: Model, normed: str, width: int) -> None:
    """Output every decoder layer's keys and values of the audio."""
    graph, heads = linear.graph, model.heads[1]
    dtype = cross_type(linear.arithmetic)
    rows = linear.rows(normed)
    split = graph.constant("split_heads", np.array([0, 0, heads, width // heads]))
    steps = []
    for number in numbers(model, _DECODER):
        for part, projection in (("key", "k_proj"), ("value", "v_proj")):
            name = f"{_DECODER}.layers.{number}.encoder_attn.{projection}"
            projected = linear.linear(rows, name, model.layers[name])
            if dtype == np.int8:
                steps.append(step_of_codes(graph, _largest_of_channels(graph, projected)))
                one = graph.constant("one", np.float32(1))
                zero = graph.constant("code_zero", np.int8(0))
                scaled = graph.op("Div", projected, steps[-1])
                projected = graph.op("QuantizeLinear", scaled, one, zero)
            projected = graph.op("Reshape", projected, split)
            output = f"cross_{part}_{number}"
            graph.op("Transpose", projected, perm=[0, 2, 1, 3], output=output)
            graph.output(output, output, ["batch", heads, "positions", width // heads], dtype)
    if steps:
        graph.op("Concat", *steps, axis=1, output="cross_steps")
        graph.output("cross_steps", "cross_steps", ["batch", len(steps), width])


def _largest_of_channels(graph: Graph, values: str) -> str:
    """Return the largest magnitude of each channel of values [batch, n, width], [batch, 1, width].

    First of each few rows, then of all: one reduction over rows so far apart takes twenty times as
    long.
    """
    middle = graph.constant("middle_axis", np.array([1]))
    magnitudes = graph.op("Unsqueeze", graph.op("Abs", values), middle)
    pooled = graph.op(
        "MaxPool", magnitudes, kernel_shape=[_FEW_ROWS, 1], strides=[_FEW_ROWS, 1], ceil_mode=1
    )
    return graph.op("ReduceMax", pooled, graph.constant("third_axis", np.array([2])), keepdims=0)


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
    return _gelu(graph, product, shift)


def _gelu(graph: Graph, values: str, shift: str) -> str:
    """Return gelu(values + shift).

    BiasGelu would take as much memory again for values / 2.
    """
    return graph.op("Gelu", graph.op("Add", values, shift))


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
