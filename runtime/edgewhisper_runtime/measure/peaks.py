"""What this machine can do at most: matrix products and reading, by ONNX Runtime's own kernels.

A peak is the best of several kernels, shapes and repetitions, so that a model, which runs on the
same kernels, does not exceed it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgewhisper_runtime.engines import onnx_session

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SHAPES = ((1500, 512, 2048), (1500, 2048, 512), (1024, 2048, 2048))  # rows, inputs, outputs
_INPUTS = 2048  # of the matrices that are read
_BLOCK = 32  # values of a block with a scale of its own
_LARGEST_READ = 2**29  # bytes: beyond most caches, and far from the limits of a file
_REPEATS = 10
_READS = 40
_FLOAT32, _UINT8, _INT8, _INT32, _INT64 = 1, 2, 3, 6, 7  # TensorProto.DataType
_TYPES = {np.dtype(np.float32): _FLOAT32, np.dtype(np.uint8): _UINT8, np.dtype(np.int8): _INT8,
          np.dtype(np.int64): _INT64}  # fmt: skip
_INTEGERS = 4  # MatMulNBits' accuracy_level: products of 8-bit integers
_MICROSOFT = b"com.microsoft"
Run = Callable[[], Any]


@dataclass(frozen=True)
class _Operator:
    """One operator on an input and stored tensors, with integer attributes."""

    name: str
    values: NDArray[Any]
    stored: Sequence[NDArray[Any]]
    result: int = _FLOAT32
    domain: bytes = b""
    attributes: tuple[tuple[str, int], ...] = ()

    @property
    def stored_bytes(self) -> int:
        return sum(array.nbytes for array in self.stored)


def int8_rate(threads: int) -> float:
    """Return the most operations of 8-bit products in a second; a multiplication is one of two."""
    return max(
        _rate(_integers(rows, inputs, outputs), 2 * rows * inputs * outputs, threads, _REPEATS)
        for rows, inputs, outputs in _SHAPES
    )


def float32_rate(threads: int) -> float:
    """Return the most operations of float32 products in a second."""
    return max(
        _rate(_floats(rows, inputs, outputs), 2 * rows * inputs * outputs, threads, _REPEATS)
        for rows, inputs, outputs in _SHAPES
    )


def read_rate(threads: int, size: int) -> float:
    """Return the most bytes in a second of kernels that read `size` bytes again and again.

    The same size as the model's, because what fits into a cache is read faster than memory is.
    The kernels are those that multiply one row by a matrix: 8 bits, 4 bits, float32.
    """
    size = min(size, _LARGEST_READ)
    operators: tuple[Callable[[], _Operator], ...] = (
        lambda: _blocks(size // _INPUTS, 8),
        lambda: _blocks(2 * size // _INPUTS, 4),
        lambda: _floats(1, _INPUTS, size // 4 // _INPUTS),
        lambda: _sums(size // 4 // _INPUTS),
    )
    rates = []
    for make in operators:  # one after another: each takes several times `size` of memory
        operator = make()
        read = max(operator.stored_bytes, operator.values.nbytes)
        rates.append(_rate(operator, read, threads, _READS))
    return max(rates)


def _floats(rows: int, inputs: int, outputs: int) -> _Operator:
    random = np.random.default_rng(0)
    values = random.random((rows, inputs), dtype=np.float32)
    return _Operator("MatMul", values, [random.random((inputs, outputs), dtype=np.float32)])


def _integers(rows: int, inputs: int, outputs: int) -> _Operator:
    random = np.random.default_rng(0)
    values = random.integers(0, 255, (rows, inputs), dtype=np.uint8)
    weight = random.integers(-127, 127, (inputs, outputs), dtype=np.int8)
    return _Operator("MatMulInteger", values, [weight], _INT32)


def _blocks(outputs: int, bits: int) -> _Operator:
    random = np.random.default_rng(0)
    values = random.random((1, _INPUTS), dtype=np.float32)
    shape = (outputs, _INPUTS // _BLOCK, _BLOCK * bits // 8)
    codes = random.integers(0, 255, shape, dtype=np.uint8)
    scales = np.full(outputs * _INPUTS // _BLOCK, 0.01, np.float32)
    numbers = {"K": _INPUTS, "N": outputs, "bits": bits, "block_size": _BLOCK,
               "accuracy_level": _INTEGERS}  # fmt: skip
    return _Operator(
        "MatMulNBits", values, [codes, scales], _FLOAT32, _MICROSOFT, tuple(numbers.items())
    )


def _sums(rows: int) -> _Operator:
    values = np.ones((max(rows, 1), _INPUTS), dtype=np.float32)
    return _Operator("ReduceSum", values, [np.array([1], dtype=np.int64)])


def _rate(operator: _Operator, amount: int, threads: int, repeats: int) -> float:
    """Return an amount divided by the least time of some runs, after one that is not counted."""
    run = _session(operator, threads)
    run()
    return amount / min(seconds(run) for _ in range(repeats))


def seconds(work: Run) -> float:
    """Return how long a function takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _session(operator: _Operator, threads: int) -> Run:
    """Return a function that runs an operator whose values and result stay in memory."""
    names = [b"stored %d" % number for number in range(len(operator.stored))]
    node = b"".join(_field(1, name) for name in (b"values", *names)) + _field(2, b"result")
    node += _field(4, operator.name.encode()) + _field(7, operator.domain)
    for attribute, number in operator.attributes:  # AttributeProto: name, i, type INT
        node += _field(5, _field(1, attribute.encode()) + _field(3, number) + _field(20, 2))
    graph = _field(1, node) + _field(2, b"peak")
    for name, array in zip(names, operator.stored, strict=True):
        dims = b"".join(_field(1, size) for size in array.shape)
        tensor = dims + _field(2, _TYPES[array.dtype]) + _field(8, name)
        graph += _field(5, tensor + _field(9, array.tobytes()))
    values = operator.values
    graph += _field(11, _value(b"values", _TYPES[values.dtype], values.shape))
    graph += _field(12, _value(b"result", operator.result, None))
    opsets = b"".join(
        _field(8, _field(1, domain) + _field(2, version))
        for domain, version in ((b"", 17), (_MICROSOFT, 1))
    )
    session = onnx_session.open_session(_field(1, 8) + opsets + _field(7, graph), threads)
    binding = session.io_binding()
    binding.bind_cpu_input("values", values)
    binding.bind_output("result", "cpu")
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
