"""How close an ONNX bundle comes to what this machine can do, measured with the same engine.

The roofline model (Williams, Waterman, Patterson 2009): the encoder is bound by how fast matrices
are multiplied, a decoder step by how fast its weights and caches are read.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from edgewhisper_runtime import bundle
from edgewhisper_runtime.audio import features
from edgewhisper_runtime.engines import onnx, onnx_file
from edgewhisper_runtime.errors import EdgeWhisperError, NotMeasurableError
from edgewhisper_runtime.measure import peaks
from edgewhisper_runtime.measure.conditions import Conditions, Watch

_WINDOWS = (features.WINDOW_SECONDS, 10)  # seconds: a full one, and a clip with adaptive context
_ENCODINGS = 7
_STEPS = 24
_PRODUCTS = ("MatMul", "MatMulIntegerToFloat", "MatMulNBits", "Gemm", "Conv")
_BEFORE_STRIDE = ".conv1."  # in the name of the weight that takes twice as many rows
_POSITIONS = "model.encoder.positions"  # float [positions, width]
_FLOAT = 1  # TensorProto.DataType
_GLANCE = 0.3  # seconds


@dataclass(frozen=True)
class Window:
    """What a window of a length in seconds takes, and its share of the peaks.

    Times are medians in seconds: of encoding a window, and of a decoder step early in its text.
    A share is the time that the work would take at the peak, divided by the time that it takes.
    """

    seconds: int
    encoder_seconds: float
    encoder_weight_operations: int
    encoder_attention_operations: int
    encoder_share_of_weights: float
    encoder_share_of_attention: float
    step_seconds: float
    step_bytes: int
    read_bytes_per_second: float
    step_share_of_bandwidth: float


@dataclass(frozen=True)
class Roofline:
    """The machine's peaks, and what share of them the bundle's two graphs reach.

    Rates are operations (a multiplication and an addition are two) per second. The peak of reading
    is measured for as many bytes as a step reads, so each window has its own.
    """

    int8_operations_per_second: float
    float32_operations_per_second: float
    encoder_weights_in: str
    windows: tuple[Window, ...]


@dataclass(frozen=True)
class EncoderWork:
    """Operations of an encoder for one window, of its weights and of its attention."""

    weights: int
    attention: int


def measure(directory: Path, threads: int) -> Roofline:
    """Measure this machine's peaks, and what share of them the bundle reaches.

    Raises EdgeWhisperError for a bundle that ONNX Runtime does not run, NotMeasurableError while
    other work keeps the machine busy, and where a peak turns out below what the bundle reaches.
    """
    manifest = bundle.verify(directory)
    if manifest.backend != "onnx":
        raise EdgeWhisperError(
            f"{directory} runs on {manifest.backend}; the roofline is measured with ONNX Runtime. "
            "Name a bundle that was exported to ONNX."
        )
    glance = Watch(threads)
    time.sleep(_GLANCE)
    _check(glance.conditions())
    watch = Watch(threads)
    integers = manifest.recipe.activations.dtype == "int8"
    backend = onnx.load(directory, manifest, "cpu", threads)
    encoder = onnx_file.read(directory / onnx.ENCODER)
    weights = step_bytes(onnx_file.read(directory / onnx.DECODER))
    float_rate = peaks.float32_rate(threads)
    int8_rate = peaks.int8_rate(threads)
    windows = []
    for length in _WINDOWS:
        frames = length * features.FRAMES_PER_SECOND
        encoder_seconds, step_seconds, cache = _times(backend, manifest.settings.mels, frames)
        work = encoder_work(encoder, frames // 2)
        read_rate = peaks.read_rate(threads, weights + cache)
        weight_rate = max(int8_rate, float_rate) if integers else float_rate
        windows.append(
            Window(
                seconds=length,
                encoder_seconds=encoder_seconds,
                encoder_weight_operations=work.weights,
                encoder_attention_operations=work.attention,
                encoder_share_of_weights=work.weights / weight_rate / encoder_seconds,
                encoder_share_of_attention=work.attention / float_rate / encoder_seconds,
                step_seconds=step_seconds,
                step_bytes=weights + cache,
                read_bytes_per_second=read_rate,
                step_share_of_bandwidth=(weights + cache) / read_rate / step_seconds,
            )
        )
    _check(watch.conditions())
    for window in windows:
        shares = window.encoder_share_of_weights + window.encoder_share_of_attention
        if max(shares, window.step_share_of_bandwidth) > 1:
            raise NotMeasurableError(
                "a peak was measured below what the bundle reaches, so other work disturbed it."
            )
    return Roofline(int8_rate, float_rate, "int8" if integers else "float32", tuple(windows))


def _check(conditions: Conditions) -> None:
    """Raise NotMeasurableError where peaks would not be this machine's."""
    if conditions.disturbed:
        raise NotMeasurableError(f"the machine is busy now ({conditions}).")


def to_rows(roofline: Roofline) -> list[tuple[str, str]]:
    """Return the measurement as a table's names and values."""
    rates = (
        f"{roofline.int8_operations_per_second / 1e9:.0f} Gop/s int8, "
        f"{roofline.float32_operations_per_second / 1e9:.0f} Gop/s float32"
    )
    rows = [("This machine's peaks", rates)]
    for window in roofline.windows:
        length = f"window of {window.seconds} s"
        encoder = (
            f"{1e3 * window.encoder_seconds:.0f} ms; its weights at the "
            f"{roofline.encoder_weights_in} peak would take "
            f"{window.encoder_share_of_weights:.0%} of that, attention at the float32 peak "
            f"{window.encoder_share_of_attention:.0%}"
        )
        step = (
            f"{1e3 * window.step_seconds:.2f} ms; to read its "
            f"{window.step_bytes / 1e6:.1f} MB at {window.read_bytes_per_second / 1e9:.1f} GB/s "
            f"would take {window.step_share_of_bandwidth:.0%} of that"
        )
        rows += [(f"Encoder, {length}", encoder), (f"Decoder step, {length}", step)]
    return rows


def encoder_work(graph: onnx_file.Contents, positions: int) -> EncoderWork:
    """Return the operations of an encoder's graph for a window of `positions`, after its stride."""
    widened = _widened(graph)
    multiplications, attentions = 0, 0
    for node in graph.nodes:
        if node.operator == "MultiHeadAttention":
            attentions += 1
        if node.operator not in _PRODUCTS:
            continue
        name = widened.get(node.inputs[1], node.inputs[1])
        if (stored := graph.tensors.get(name)) is None:
            continue
        size = prod(stored.shape)
        if node.operator == "MatMulNBits":
            size = node.numbers["N"] * node.numbers["K"]
        multiplications += size * positions * (2 if _BEFORE_STRIDE in name else 1)
    width = graph.tensors[_POSITIONS].shape[1]
    return EncoderWork(2 * multiplications, 2 * attentions * 2 * positions**2 * width)


def step_bytes(graph: onnx_file.Contents) -> int:
    """Return the bytes of a decoder's stored tensors that a step reads, as they are in memory.

    Of a table whose rows are only looked up a step reads one row, which is left out.
    """
    widened = _widened(graph)
    read, wide = set(), set(widened.values())
    for node in graph.nodes:
        for place, name in enumerate(node.inputs):
            if node.operator == "Cast" or (node.operator == "Gather" and place == 0):
                continue
            read.add(widened.get(name, name))
    return sum(
        tensor.bytes * (32 // tensor.bits if name in wide else 1)
        for name, tensor in graph.tensors.items()
        if name in read
    )


def _widened(graph: onnx_file.Contents) -> dict[str, str]:
    """Return the stored tensors that are cast to float32 when they are loaded, by the new name."""
    return {
        node.outputs[0]: node.inputs[0]
        for node in graph.nodes
        if node.operator == "Cast"
        and node.numbers.get("to") == _FLOAT
        and node.inputs[0] in graph.tensors
    }


def _times(backend: onnx.OnnxBackend, mels: int, frames: int) -> tuple[float, float, int]:
    """Return the seconds to encode a window and of a step, and the bytes of the audio's cache.

    Bytes of the text's own cache are left out: they are few.
    """
    silence = np.zeros((1, mels, frames), dtype=np.float32)
    encoded = backend.encode(silence)
    encodings = [peaks.seconds(lambda: backend.encode(silence)) for _ in range(_ENCODINGS)]
    cache = backend.start(encoded)
    token = np.zeros((1, 1), dtype=np.int64)
    steps = [peaks.seconds(lambda: backend.step(token, cache)) for _ in range(_STEPS)]
    cache_bytes = sum(array.nbytes for array in encoded.values())
    return statistics.median(encodings), statistics.median(steps[1:]), cache_bytes
