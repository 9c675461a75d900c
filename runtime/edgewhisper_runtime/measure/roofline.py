"""How close an ONNX bundle comes to what this machine can do, measured with the same engine.

The roofline model (Williams, Waterman, Patterson 2009): the encoder is bound by how fast matrices
are multiplied, a decoder step by how fast its weights and caches are read from memory.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgewhisper_runtime import bundle
from edgewhisper_runtime.audio import features
from edgewhisper_runtime.engines import onnx, onnx_file
from edgewhisper_runtime.errors import EdgeWhisperError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgewhisper_runtime.engines.onnx_file import Tensor

_WINDOWS = (features.WINDOW_SECONDS, 10)  # seconds: a full one, and a clip with adaptive context
_ROWS, _SIDE = 1024, 2048  # of the matrices: large enough that packing them does not count
_READ_BYTES = 512 * 2**20  # beyond any processor's caches
_REPEATS = 7
_STEPS = 24
_FLOAT32, _UINT8, _INT8, _INT32 = 1, 2, 3, 6  # TensorProto.DataType
_MATRIX = re.compile(r"model\.encoder\.(?P<layer>.+)\.(int8|int4|weight)")
_LOOKED_UP = ".positions"  # of a table, of which a step reads one row
_CROSS = re.compile(r"model\.decoder\..+encoder_attn\.[kv]_proj\.(int8|int4|weight)")


def measure(directory: Path, threads: int) -> dict[str, Any]:
    """Return this machine's peaks, and what share of them the bundle's two graphs reach.

    Rates are operations (a multiplication and an addition are two) and bytes read, per second.
    Times are medians in seconds for each window length: of encoding a window, and of a decoder step
    early in its text.
    Raises EdgeWhisperError for a bundle that ONNX Runtime does not run.
    """
    manifest = bundle.verify(directory)
    if manifest.backend != "onnx":
        raise EdgeWhisperError(
            f"{directory} runs on {manifest.backend}; the roofline is measured with ONNX Runtime. "
            "Name a bundle that was exported to ONNX."
        )
    integers = manifest.recipe.activations.dtype == "int8"
    backend = onnx.load(directory, manifest, "cpu", threads)
    encoder = onnx_file.read(directory / onnx.ENCODER).tensors
    decoder = _read_bytes(onnx_file.read(directory / onnx.DECODER).tensors)
    int8_peak = _product_rate(threads, int8=True)
    float_peak = _product_rate(threads, int8=False)
    bandwidth = _read_rate(threads)
    windows = []
    for seconds in _WINDOWS:
        frames = seconds * features.FRAMES_PER_SECOND
        encoder_seconds, step_seconds, cache_bytes = _times(backend, manifest.settings.mels, frames)
        weight_operations, attention_operations = _encoder_operations(encoder, frames // 2)
        read = cache_bytes + decoder
        windows.append(
            {
                "seconds": seconds,
                "encoder_seconds": encoder_seconds,
                "encoder_weight_operations": weight_operations,
                "encoder_attention_operations": attention_operations,
                "encoder_share_of_weights": weight_operations
                / (int8_peak if integers else float_peak)
                / encoder_seconds,
                "encoder_share_of_attention": attention_operations / float_peak / encoder_seconds,
                "step_seconds": step_seconds,
                "step_bytes": read,
                "step_share_of_bandwidth": read / bandwidth / step_seconds,
            }
        )
    return {
        "int8_operations_per_second": int8_peak,
        "float32_operations_per_second": float_peak,
        "read_bytes_per_second": bandwidth,
        "encoder_weights_in": "int8" if integers else "float32",
        "windows": windows,
    }


def to_rows(measurement: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the measurement as a table's names and values."""
    peaks = (
        f"{measurement['int8_operations_per_second'] / 1e9:.0f} Gop/s int8, "
        f"{measurement['float32_operations_per_second'] / 1e9:.0f} Gop/s float32, "
        f"{measurement['read_bytes_per_second'] / 1e9:.1f} GB/s read"
    )
    rows = [("This machine's peaks", peaks)]
    for window in measurement["windows"]:
        length = f"window of {window['seconds']} s"
        encoder = (
            f"{1e3 * window['encoder_seconds']:.0f} ms; its weights at the "
            f"{measurement['encoder_weights_in']} peak would take "
            f"{window['encoder_share_of_weights']:.0%} of that, attention at the float32 peak "
            f"{window['encoder_share_of_attention']:.0%}"
        )
        step = (
            f"{1e3 * window['step_seconds']:.2f} ms; to read its "
            f"{window['step_bytes'] / 1e6:.1f} MB would take "
            f"{window['step_share_of_bandwidth']:.0%} of that"
        )
        rows += [(f"Encoder, {length}", encoder), (f"Decoder step, {length}", step)]
    return rows


def _times(backend: onnx.OnnxBackend, mels: int, frames: int) -> tuple[float, float, int]:
    """Return the seconds to encode a window and of a step, and the bytes of the audio's cache.

    Bytes of the text's own cache are left out: they are few.
    """
    silence = np.zeros((1, mels, frames), dtype=np.float32)
    encoder_seconds = _median(lambda: backend.encode(silence))
    encoded = backend.encode(silence)
    cache = backend.start(encoded)
    token = np.zeros((1, 1), dtype=np.int64)
    steps = [_seconds(lambda: backend.step(token, cache)) for _ in range(_STEPS)]
    cache_bytes = sum(array.nbytes for array in encoded.values())
    return encoder_seconds, statistics.median(steps[1:]), cache_bytes


def _encoder_operations(tensors: dict[str, Tensor], positions: int) -> tuple[int, int]:
    """Return the operations of all weights and of attention, for one window."""
    macs, layers, width = 0, set(), 0
    for name, tensor in tensors.items():
        if not (matrix := _MATRIX.fullmatch(name)) and not _CROSS.fullmatch(name):
            continue
        size = tensor.bytes * 8 // (4 if name.endswith("int4") else tensor.bits)
        if size == max(tensor.shape):  # the gain of a norm
            continue
        twice = matrix is not None and matrix["layer"] == "conv1"  # before the stride of conv2
        macs += size * positions * (2 if twice else 1)
        if matrix and matrix["layer"].endswith("q_proj"):
            layers.add(matrix["layer"])
            width = round(size**0.5)
    return 2 * macs, 2 * len(layers) * 2 * positions**2 * width


def _read_bytes(tensors: dict[str, Tensor]) -> int:
    """Return the bytes of weights that a decoder step reads."""
    return sum(
        tensor.bytes * (2 if tensor.dtype == "float16" else 1)  # float32 once it is loaded
        for name, tensor in tensors.items()
        if not name.endswith(_LOOKED_UP)
    )


def _product_rate(threads: int, *, int8: bool) -> float:
    """Return how many operations of matrix products ONNX Runtime does in a second."""
    random = np.random.default_rng(0)
    if int8:
        activations: NDArray[Any] = random.integers(0, 255, (_ROWS, _SIDE), dtype=np.uint8)
        weight: NDArray[Any] = random.integers(-127, 127, (_SIDE, _SIDE), dtype=np.int8)
        run = _graph("MatMulInteger", activations, weight, _INT32, threads)
    else:
        activations = random.random((_ROWS, _SIDE), dtype=np.float32)
        weight = random.random((_SIDE, _SIDE), dtype=np.float32)
        run = _graph("MatMul", activations, weight, _FLOAT32, threads)
    return 2 * _ROWS * _SIDE * _SIDE / _median(run)


def _read_rate(threads: int) -> float:
    """Return how many bytes ONNX Runtime reads in a second, when it adds up the values."""
    values = np.ones((4096, _READ_BYTES // 4 // 4096), dtype=np.float32)
    axes = np.array([1], dtype=np.int64)
    return values.nbytes / _median(_graph("ReduceSum", values, axes, _FLOAT32, threads))


def _graph(
    operator: str, activations: NDArray[Any], stored: NDArray[Any], result: int, threads: int
) -> Callable[[], Any]:
    """Return a function that runs one operator on an input and a stored tensor, both in memory."""
    kinds = {np.dtype(np.float32): _FLOAT32, np.dtype(np.uint8): _UINT8, np.dtype(np.int8): _INT8,
             np.dtype(np.int64): 7}  # fmt: skip
    dims = b"".join(_field(1, size) for size in stored.shape)
    tensor = dims + _field(2, kinds[stored.dtype]) + _field(8, b"b") + _field(9, stored.tobytes())
    node = _field(1, b"a") + _field(1, b"b") + _field(2, b"c") + _field(4, operator.encode())
    graph = (
        _field(1, node)
        + _field(2, b"peak")
        + _field(5, tensor)
        + _field(11, _value(b"a", kinds[activations.dtype], activations.shape))
        + _field(12, _value(b"c", result, None))
    )
    model = _field(1, 8) + _field(8, _field(1, b"") + _field(2, 17)) + _field(7, graph)
    session = onnx.open_session(model, threads)
    binding = session.io_binding()
    binding.bind_cpu_input("a", activations)
    binding.bind_output("c", "cpu")
    return lambda: session.run_with_iobinding(binding)


def _value(name: bytes, kind: int, shape: tuple[int, ...] | None) -> bytes:
    """Return a ValueInfoProto of onnx.proto."""
    tensor = _field(1, kind)
    if shape is not None:
        tensor += _field(2, b"".join(_field(1, _field(1, size)) for size in shape))
    return _field(1, name) + _field(2, _field(1, tensor))


def _field(number: int, value: int | bytes) -> bytes:
    """Return a field as protobuf encodes it (protobuf.dev/programming-guides/encoding)."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    groups = [value >> shift & 127 for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([group | 128 for group in groups[:-1]] + groups[-1:])


def _median(work: Callable[[], Any]) -> float:
    """Return the median time of some runs after one that is not counted, in seconds."""
    work()
    return statistics.median(_seconds(work) for _ in range(_REPEATS))


def _seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
