"""Whisper's decoder as a graph: tokens and caches in, the logits after some of them out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgewhisper_exporters.layers import Grid, Layer, Model
from edgewhisper_exporters.onnx.common import (
    add_and_norm,
    bias,
    cross_type,
    floats,
    norm,
    numbers,
)
from edgewhisper_exporters.onnx.graph import Graph
from edgewhisper_exporters.onnx.linear import Arithmetic, Decoder

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DECODER = "model.decoder"
_EMBEDDING, _OUTPUT = f"{_DECODER}.embed_tokens", "proj_out"
_PARTS = ("key", "value")


def build(model: Model, arithmetic: Arithmetic) -> Graph:
    """Return the graph.

    Inputs: tokens and their positions, int64 [batch, n]; last_position int32 [batch], the position
    of each row's last token; length int32 [], one more than the largest of these; scored int64 [m],
    which of the n tokens logits are wanted after. past_key_N and past_value_N, float32 [batch,
    heads, room, width of a head], are written in place when present_key_N and present_value_N are
    bound to the same memory: keys and values grow without a copy. cross_key_N and cross_value_N
    [audios, heads, audio_positions, width of a head] are the encoder's, with cross_steps where they
    are int8; `audios` is one, for all rows, or the batch. audio_last int32 [audios] is the last
    position of each audio, audio_length int32 [] one more than the largest of these. They are not
    changed: present_cross_key_N and present_cross_value_N must be bound to their memory.

    Outputs: logits float32 [batch * m, vocabulary]; query_N float32 [audios,
    batch / audios * n, width], layer N's queries of what cross_key_N holds, for word times.
    """
    graph = Graph("decoder")
    linear = Decoder(graph, arithmetic)
    table = floats(model, f"{_DECODER}.embed_positions")
    room = len(table)
    tokens = graph.input("tokens", np.int64, ["batch", "n"])
    positions = graph.input("positions", np.int64, ["batch", "n"])
    graph.input("last_position", np.int32, ["batch"])
    graph.input("length", np.int32, [])
    graph.input("scored", np.int64, ["m"])
    graph.input("audio_last", np.int32, ["audios"])
    graph.input("audio_length", np.int32, [])
    embedding = model.layers[_EMBEDDING].weight
    hidden = graph.op(
        "Add",
        linear.lookup(tokens, _EMBEDDING, embedding),
        graph.op("Gather", graph.floats(f"{_DECODER}.positions", table), positions),
    )
    normed = norm(graph, model, f"{_DECODER}.layers.0.self_attn_layer_norm", hidden)
    count = len(numbers(model, _DECODER))
    cross = _CrossAttention(linear, model, hidden, count)
    for number in range(count):
        name = f"{_DECODER}.layers.{number}"
        following = (
            f"{_DECODER}.layers.{number + 1}.self_attn_layer_norm"
            if number + 1 < count
            else f"{_DECODER}.layer_norm"
        )
        attended = _self_attention(linear, model, number, normed, room)
        out, cross_out, fc1, fc2 = (
            f"{name}.{layer}" for layer in ("self_attn.out_proj", "encoder_attn.out_proj", "fc1",
                                            "fc2")
        )  # fmt: skip
        normed, hidden = add_and_norm(
            graph, model, out, _product(linear, model, out, attended), hidden,
            f"{name}.encoder_attn_layer_norm", few=True,
        )  # fmt: skip
        attended = cross.attend(number, normed)
        normed, hidden = add_and_norm(
            graph, model, cross_out, _product(linear, model, cross_out, attended), hidden,
            f"{name}.final_layer_norm", few=True,
        )  # fmt: skip
        grown = _product(linear, model, fc1, normed)
        grown = graph.fused("BiasGelu", grown, bias(graph, model, fc1))
        normed, hidden = add_and_norm(
            graph, model, fc2, _product(linear, model, fc2, grown), hidden, following, few=True
        )
    _logits(linear, model, normed)
    return graph


class _CrossAttention:
    """Attends to the audio.

    Its keys and values are a past to which nothing is added, so that each audio has a length of
    its own. In int8 a channel of an audio has one step. The steps of the keys are multiplied into
    the queries and those of the values into the result, which leaves the kernel one step, of 1:
    its faster form.
    """

    def __init__(self, linear: Decoder, model: Model, hidden: str, count: int) -> None:
        """Prepare `count` layers for rows like `hidden` [batch, n, width]."""
        self.linear, self.model = linear, model
        self.heads = model.heads[1]
        self.width = floats(model, f"{_DECODER}.embed_positions").shape[1]
        self.dtype = cross_type(linear.arithmetic)
        graph = linear.graph
        # Attention to the audio has no mask, so rows of one audio can be joined to one sequence.
        audios = graph.op("Shape", "audio_last")
        rest = graph.constant("rows_of_audio", np.array([-1, self.width]))
        self.by_audio = graph.op("Concat", audios, rest, axis=0)
        self.by_row = graph.op("Shape", hidden)
        self.steps: list[str] = []
        if self.dtype == np.int8:
            given = graph.input("cross_steps", np.float32, ["audios", 2 * count, self.width])
            self.steps = [f"cross_{part}_{n}.step" for n in range(count) for part in _PARTS]
            graph.op("Split", given, axis=1, num_outputs=2 * count, output=self.steps)

    def attend(self, number: int, normed: str) -> str:
        """Return what layer `number` takes from the audio, [batch, n, width]."""
        graph, heads = self.linear.graph, self.heads
        name = f"{_DECODER}.layers.{number}.encoder_attn.q_proj"
        query = self.linear.linear(self.linear.rows(normed), name, self.model.layers[name])
        queries = f"query_{number}"
        if self.steps:
            by_audio = graph.op("Reshape", query, self.by_audio)
            graph.op("Mul", by_audio, self.steps[2 * number], output=queries)
        else:
            graph.op("Reshape", query, self.by_audio, output=queries)
        graph.output(queries, queries, ["audios", "rows", self.width])
        shape = ["audios", heads, "audio_positions", self.width // heads]
        cache = [graph.input(f"cross_{p}_{number}", self.dtype, shape) for p in _PARTS]
        attributes: dict[str, int | str] = {}
        unit: list[str] = []
        if self.steps:
            unit = ["", "", "", "", "", *[graph.constant("unit_step", np.ones(1, np.float32))] * 2]
            kind = "PER_TENSOR"
            attributes = {"k_quant_type": kind, "v_quant_type": kind, "kv_cache_bit_width": 8}
        nothing = graph.op("Slice", queries, *self._empty_range())
        attended = f"{name}.attended"
        graph.fused(
            "GroupQueryAttention", queries, nothing, nothing, *cache, "audio_last", "audio_length",
            *unit, output=[attended, *(f"present_{name}" for name in cache)],
            num_heads=heads, kv_num_heads=heads, causal=0, **attributes,
        )  # fmt: skip
        for array in cache:
            graph.output(f"present_{array}", f"present_{array}", shape, self.dtype)
        if self.steps:
            attended = graph.op("Mul", attended, self.steps[2 * number + 1])
        return graph.op("Reshape", attended, self.by_row)

    def _empty_range(self) -> list[str]:
        """Return the start, end and axis of a slice without rows."""
        zero = self.linear.graph.constant("first_0", np.array([0]))
        return [zero, zero, self.linear.graph.constant("middle_axis", np.array([1]))]


def _self_attention(linear: Decoder, model: Model, number: int, normed: str, room: int) -> str:
    """Attend to all tokens so far, appending to the cache in place."""
    graph, heads = linear.graph, model.heads[1]
    name = f"{_DECODER}.layers.{number}.self_attn"
    parts = [model.layers[f"{name}.{part}"] for part in ("q_proj", "k_proj", "v_proj")]
    joined = _joined(parts)
    rows = linear.rows(normed)
    if joined is not None:
        packed = [linear.linear(rows, f"{name}.qkv", joined), "", ""]
    else:
        packed = [
            linear.linear(rows, f"{name}.{part}", layer)
            for part, layer in zip(("q_proj", "k_proj", "v_proj"), parts, strict=True)
        ]
    shape: list[int | str] = ["batch", heads, room, _outputs(parts[0]) // heads]
    past = [graph.input(f"past_{part}_{number}", np.float32, shape) for part in _PARTS]
    present = [f"present_{part}_{number}" for part in _PARTS]
    attended = graph.fused(
        "GroupQueryAttention", *packed, *past, "last_position", "length",
        output=[f"{name}.attended", *present], num_heads=heads, kv_num_heads=heads,
    )  # fmt: skip
    for array in present:
        graph.output(array, array, shape)
    return attended


def _joined(parts: list[Layer]) -> Layer | None:
    """Return one layer with the outputs of several, joined; None where their grids differ."""
    biases = [
        np.zeros(_outputs(part), np.float32) if part.bias is None else part.bias for part in parts
    ]
    weights = [part.weight for part in parts]
    joined: NDArray[np.floating] | Grid
    grids = [weight for weight in weights if isinstance(weight, Grid)]
    plain = [weight for weight in weights if not isinstance(weight, Grid)]
    if not grids:
        joined = np.concatenate(plain)
    elif not plain and len({(grid.bits, grid.group) for grid in grids}) == 1:
        joined = Grid(
            np.concatenate([grid.codes for grid in grids]),
            np.concatenate([grid.scale for grid in grids]),
            np.concatenate([grid.zero for grid in grids]),
            grids[0].bits,
        )
    else:
        return None
    return Layer(joined, np.concatenate(biases))


def _outputs(layer: Layer) -> int:
    weight = layer.weight
    return len(weight.codes if isinstance(weight, Grid) else weight)


def _product(linear: Decoder, model: Model, name: str, values: str) -> str:
    return linear.linear(linear.rows(values), name, model.layers[name], bias=False)


def _logits(linear: Decoder, model: Model, normed: str) -> None:
    """Output the logits, from the output layer or the shared embedding."""
    graph = linear.graph
    scored = graph.op("Gather", normed, "scored", axis=1)
    name = _OUTPUT if _OUTPUT in model.layers else _EMBEDDING
    weight = model.layers[name].weight
    if isinstance(weight, Grid):
        logits = graph.op("Flatten", linear.product(linear.rows(scored), name, weight), axis=2)
    else:
        # Gemm takes the table as the lookup does; a transposed copy would be stored too
        flat = graph.op("Flatten", scored, axis=2)
        logits = graph.op("Gemm", flat, graph.floats(f"{name}.weight", weight), transB=1)
    graph.output("logits", logits, ["batch * m", _outputs(model.layers[name])])
