"""Whisper's decoder as a graph: tokens and caches in, the logits after the last token out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgewhisper_exporters.layers import Grid, Layer, Model
from edgewhisper_exporters.onnx.common import add_and_norm, bias, floats, norm, numbers
from edgewhisper_exporters.onnx.graph import Graph
from edgewhisper_exporters.onnx.linear import Arithmetic, Decoder

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DECODER = "model.decoder"
_EMBEDDING, _OUTPUT = f"{_DECODER}.embed_tokens", "proj_out"


def build(model: Model, arithmetic: Arithmetic) -> Graph:
    """Return the graph.

    Inputs: tokens int64 [batch, n] and their positions int64 [n]; last_position int32 [batch], the
    position of the last token; length int32 [], one more than that. past_key_N and past_value_N,
    float32 [batch, heads, room, width of a head], are written in place when present_key_N and
    present_value_N are bound to the same memory: keys and values grow without a copy. cross_key_N
    and cross_value_N, float32 [audios, heads, heard, width of a head], are the encoder's; every
    audio has the same number of rows, next to each other.

    Outputs: logits float32 [batch, vocabulary] after the last token; query_N float32 [audios,
    batch / audios * n, width], the queries of layer N's cross-attention, for word times.
    """
    graph = Graph("decoder")
    linear = Decoder(graph, arithmetic)
    table = floats(model, f"{_DECODER}.embed_positions")
    (room, width), heads = table.shape, model.heads[1]
    tokens = graph.input("tokens", np.int64, ["batch", "n"])
    positions = graph.input("positions", np.int64, ["n"])
    graph.input("last_position", np.int32, ["batch"])
    graph.input("length", np.int32, [])
    embedding = model.layers[_EMBEDDING].weight
    hidden = graph.op(
        "Add",
        linear.lookup(tokens, _EMBEDDING, embedding),
        graph.op("Gather", graph.floats(f"{_DECODER}.positions", table), positions),
    )
    normed = norm(graph, model, f"{_DECODER}.layers.0.self_attn_layer_norm", hidden)
    # Cross-attention has no mask, so the rows of an audio can be joined into one sequence.
    audios = graph.op("Shape", "cross_key_0", end=1)
    rest = graph.constant("rows_of_audio", np.array([-1, width]))
    by_audio = graph.op("Concat", audios, rest, axis=0)
    by_row = graph.op("Shape", hidden)
    count = len(numbers(model, _DECODER))
    for number in range(count):
        name = f"{_DECODER}.layers.{number}"
        following = (
            f"{_DECODER}.layers.{number + 1}.self_attn_layer_norm"
            if number + 1 < count
            else f"{_DECODER}.layer_norm"
        )
        cache = {
            part: graph.input(f"{part}_{number}", np.float32, [rows, heads, axis, width // heads])
            for part, rows, axis in (
                ("past_key", "batch", room), ("past_value", "batch", room),
                ("cross_key", "audios", "heard"), ("cross_value", "audios", "heard"),
            )
        }  # fmt: skip
        attended = _self_attention(linear, model, number, normed, cache)
        out, cross, cross_out, fc1, fc2 = (
            f"{name}.{layer}"
            for layer in (
                "self_attn.out_proj", "encoder_attn.q_proj", "encoder_attn.out_proj", "fc1", "fc2",
            )
        )  # fmt: skip
        normed, hidden = add_and_norm(
            graph, model, out, _product(linear, model, out, attended), hidden,
            f"{name}.encoder_attn_layer_norm", few=True,
        )  # fmt: skip
        query = linear.linear(linear.rows(normed), cross, model.layers[cross])
        query = graph.op("Reshape", query, by_audio, output=f"query_{number}")
        graph.output(query, query, ["audios", "rows", width])
        attended = graph.fused(
            "MultiHeadAttention", query, cache["cross_key"], cache["cross_value"], num_heads=heads
        )
        attended = graph.op("Reshape", attended, by_row)
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
    for number in range(count):
        for part in ("key", "value"):
            present = f"present_{part}_{number}"
            graph.output(present, present, ["batch", heads, room, width // heads])
    return graph


def _self_attention(
    linear: Decoder, model: Model, number: int, normed: str, cache: dict[str, str]
) -> str:
    """Attend to all tokens so far, appending to the cache in place."""
    graph = linear.graph
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
    return graph.fused(
        "GroupQueryAttention",
        *packed,
        cache["past_key"],
        cache["past_value"],
        "last_position",
        "length",
        output=[f"{name}.attended", f"present_key_{number}", f"present_value_{number}"],
        num_heads=model.heads[1],
        kv_num_heads=model.heads[1],
    )


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
    """Output the logits after the last token, from the output layer or the shared embedding."""
    graph = linear.graph
    last = graph.op("Gather", normed, graph.constant("minus_one", np.array([-1])), axis=1)
    name = _OUTPUT if _OUTPUT in model.layers else _EMBEDDING
    weight = model.layers[name].weight
    vocabulary = _outputs(model.layers[name])
    drop = graph.constant("middle_axis", np.array([1]))
    if isinstance(weight, Grid):
        logits = graph.op("Squeeze", linear.product(linear.rows(last), name, weight), drop)
    else:
        # Gemm takes the table as the lookup does; a transposed copy would be stored too
        flat = graph.op("Squeeze", last, drop)
        logits = graph.op("Gemm", flat, graph.floats(f"{name}.weight", weight), transB=1)
    graph.output("logits", logits, ["batch", vocabulary])
