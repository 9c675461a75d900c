"""The contents of an ONNX file, read before any engine opens it, without a protobuf library.

Walks the wire format (protobuf.dev/programming-guides/encoding) along the few fields of
onnx.proto that matter here, and refuses what a bundle never has.
"""

from __future__ import annotations

import mmap
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import BinaryIO

from edgewhisper_runtime.errors import BundleError

# onnx.proto's numbers of the fields that are followed
_GRAPH, _FUNCTION = 7, 25  # of a model
_NODE, _INITIALIZER, _SPARSE = 1, 5, 15  # of a graph
_INPUT, _OUTPUT, _OP_TYPE, _ATTRIBUTE, _DOMAIN = 1, 2, 4, 5, 7  # of a node
_TENSORS, _SUBGRAPHS, _SPARSE_TENSORS = {5, 10}, {6, 11}, {22, 23}  # of an attribute
_ATTRIBUTE_NAME, _INT, _INTS = 1, 3, 8
_PLAIN = {1, 2, 3, 4, 7, 8, 9, 13, 20}  # name, numbers, texts, documentation, type
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA, _EXTERNAL_DATA, _LOCATION = 1, 2, 8, 9, 13, 14  # of a tensor
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MORE, _LARGEST_KEY = 0x80, 2**32 - 1
# bits of an element, by TensorProto.DataType
_TYPES = {
    1: ("float32", 32), 2: ("uint8", 8), 3: ("int8", 8), 6: ("int32", 32), 7: ("int64", 64),
    9: ("bool", 8), 10: ("float16", 16), 11: ("float64", 64), 16: ("bfloat16", 16),
    21: ("uint4", 4), 22: ("int4", 4),
}  # fmt: skip
OPERATORS = ("", "ai.onnx", "com.microsoft")  # the domains that ONNX Runtime itself implements
# The operators that EdgeWhisper's exporter writes, by domain.
_EXPORTED = {
    "": {
        "Abs", "Add", "BitShift", "BitwiseAnd", "BitwiseOr", "Cast", "Concat", "Conv", "Div",
        "Expand", "Flatten", "Gather", "Gelu", "Gemm", "Identity", "LayerNormalization", "MatMul",
        "Max", "MaxPool", "Mul", "Neg", "Pad", "QuantizeLinear", "ReduceMax", "ReduceMin",
        "ReduceSum", "Reshape", "Shape", "Slice", "Split", "Squeeze", "Sub", "Transpose",
        "Unsqueeze",
    },
    "com.microsoft": {
        "BiasGelu", "GroupQueryAttention", "MatMulIntegerToFloat", "MatMulNBits",
        "MultiHeadAttention", "SkipLayerNormalization",
    },
}  # fmt: skip
_GROWING = ("Concat", "Expand", "Pad")  # what can make a tensor larger than any input
_MAX_NODES, _MAX_GROWING = 2**14, 2**10
_MAX_INPUTS = 128  # the largest Whisper has 32 layers, and joins keys and values of each
_MAX_ELEMENTS = 2**26  # that a constant shape may ask for
_LARGEST_SIZE = 2**24  # of one dimension, and of an integer attribute
_UNBOUNDED = {2**63 - 1, -(2**63)}  # the end of a slice: all there is
_MAX_NUMBERS = 64  # in a tensor of int64: they are shapes, axes and bounds


@dataclass(frozen=True)
class Tensor:
    """A stored tensor: its type's name, its shape, and the bits of an element.

    Its values are the `stored` bytes of the file from `offset` on.
    """

    dtype: str
    shape: tuple[int, ...]
    bits: int
    offset: int = 0
    stored: int = 0

    @property
    def bytes(self) -> int:
        """The size of its values, by its type and shape."""
        return -(-prod(self.shape) * self.bits // 8)


@dataclass
class Node:
    """An operator in a graph, the names of its inputs and outputs, and its integer attributes."""

    operator: str = ""
    domain: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    plain: bool = True  # no attribute is a tensor, a type or a reference


@dataclass
class Contents:
    """A graph's nodes and its stored tensors."""

    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    @property
    def operators(self) -> Counter[str]:
        """How often each operator occurs, "com.microsoft" ones too."""
        return Counter(node.operator for node in self.nodes)


def read(path: Path) -> Contents:
    """Return what the file holds.

    Raises BundleError when it is no ONNX file, keeps data in other files, or has functions,
    subgraphs, or operators that are not ONNX Runtime's own.
    """
    contents = Contents()
    try:
        with path.open("rb") as file:
            # Not closed by hand: slices of it may live on in an error's traceback.
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        _Reader(memoryview(mapped), path).read_model(contents)
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} is not an ONNX file ({error}). Build again.") from error
    if not contents.nodes:
        raise BundleError(f"{path} is not an ONNX file: it has no operators. Build again.")
    return contents


def read_exported(path: Path) -> Contents:
    """Return what the file holds, if it is safe to open: only what EdgeWhisper's exporter writes.

    Raises BundleError as `read` does, and for other operators, tensors whose values are not all
    in the file, and numbers that would make the engine allocate more memory than any Whisper needs.
    """
    contents = read(path)
    try:
        with path.open("rb") as file:
            numbers = {
                name: _numbers(file, name, tensor) for name, tensor in contents.tensors.items()
            }
        _check_nodes(contents, numbers)
    except (ValueError, LookupError) as error:
        raise BundleError(f"{path} is not as EdgeWhisper exports it: {error}. Refused.") from error
    return contents


def _numbers(file: BinaryIO, name: str, tensor: Tensor) -> tuple[int, ...] | None:
    """Return the values of a tensor of int64, None for another; raise ValueError for a bad one."""
    if any(size > _LARGEST_SIZE for size in tensor.shape) or tensor.stored != tensor.bytes:
        raise ValueError(f"tensor {name[:64]!r} of {tensor.shape} holds {tensor.stored} bytes")
    if tensor.dtype != "int64":
        return None
    count = tensor.stored // 8
    if count > _MAX_NUMBERS:
        raise ValueError(f"tensor {name[:64]!r} holds {count} numbers")
    file.seek(tensor.offset)
    numbers = struct.unpack(f"<{count}q", file.read(tensor.stored))
    if any(abs(number) > _LARGEST_SIZE and number not in _UNBOUNDED for number in numbers):
        raise ValueError(f"tensor {name[:64]!r} holds {numbers}")
    return numbers


def _check_nodes(contents: Contents, numbers: dict[str, tuple[int, ...] | None]) -> None:
    operators = contents.operators
    if operators.total() > _MAX_NODES or sum(operators[o] for o in _GROWING) > _MAX_GROWING:
        raise ValueError(f"it has {operators.total()} operators")
    for node in contents.nodes:
        domain = "" if node.domain == "ai.onnx" else node.domain
        if node.operator not in _EXPORTED[domain] or not node.plain:
            raise ValueError(f"it has the operator {node.operator[:64]!r}, or one with tensors")
        if len(node.inputs) > _MAX_INPUTS:
            raise ValueError(f"{node.operator} has {len(node.inputs)} inputs")
        if any(abs(number) > _LARGEST_SIZE for number in node.numbers.values()):
            raise ValueError(f"{node.operator} has the attributes {node.numbers}")
        if node.operator in _GROWING:
            for values in filter(None, map(numbers.get, node.inputs[1:])):
                if prod(max(abs(value), 1) for value in values) > _MAX_ELEMENTS:
                    raise ValueError(f"{node.operator} asks for {values}")
        if node.operator == "MatMulNBits":
            _check_blocks(node, contents.tensors)


def _check_blocks(node: Node, tensors: dict[str, Tensor]) -> None:
    """Raise ValueError unless a matrix in blocks has all the values that its kernel will read."""
    sizes = [node.numbers[name] for name in ("N", "K", "block_size", "bits")]
    if min(sizes) < 1:
        raise ValueError(f"MatMulNBits has the attributes {node.numbers}")
    outputs, inputs, size, bits = sizes
    blocks = -(-inputs // size)
    stored = tensors.get(node.inputs[1])
    if stored is not None and stored.bytes != outputs * blocks * size * bits // 8:
        raise ValueError(f"MatMulNBits of {outputs} by {inputs} has {stored.bytes} bytes")


class _Reader:
    """Walks a mapped file; a message is the range of its bytes."""

    def __init__(self, data: memoryview, path: Path) -> None:
        self._data = data
        self._path = path

    def read_model(self, contents: Contents) -> None:
        for number, value in self._fields(range(len(self._data))):
            if number == _FUNCTION:
                raise BundleError(f"{self._path} defines operators of its own. Refused.")
            if number == _GRAPH:
                self._read_graph(_message(value), contents)

    def _read_graph(self, graph: range, contents: Contents) -> None:
        for number, value in self._fields(graph):
            if number == _NODE:
                self._read_node(_message(value), contents)
            elif number == _INITIALIZER:
                name, tensor = self._read_tensor(_message(value))
                contents.tensors[name] = tensor
            elif number == _SPARSE:
                raise BundleError(f"{self._path} has sparse tensors. Refused.")

    def _read_node(self, message: range, contents: Contents) -> None:
        node = Node()
        for number, value in self._fields(message):
            if number == _INPUT:
                node.inputs.append(self._text(value))
            elif number == _OUTPUT:
                node.outputs.append(self._text(value))
            elif number == _OP_TYPE:
                node.operator = self._text(value)
            elif number == _DOMAIN:
                node.domain = self._text(value)
            elif number == _ATTRIBUTE:
                self._read_attribute(_message(value), node)
        if node.domain not in OPERATORS:
            raise BundleError(
                f"{self._path} needs the operator {node.operator} of {node.domain!r}. Refused."
            )
        contents.nodes.append(node)

    def _read_attribute(self, attribute: range, node: Node) -> None:
        name = ""
        for number, value in self._fields(attribute):
            if number in _SUBGRAPHS:
                raise BundleError(f"{self._path} has a subgraph in {node.operator}. Refused.")
            if number in _SPARSE_TENSORS:
                raise BundleError(f"{self._path} has a sparse tensor in {node.operator}. Refused.")
            if number in _TENSORS:
                self._read_tensor(_message(value))
            node.plain = node.plain and number in _PLAIN
            if number == _ATTRIBUTE_NAME:
                name = self._text(value)
            elif number == _INT:
                node.numbers[name] = _signed(value)
            elif number == _INTS:
                values = [value] if isinstance(value, int) else self._varints(value)
                node.numbers |= {f"{name} {n}": _signed(v) for n, v in enumerate(values)}

    def _read_tensor(self, tensor: range) -> tuple[str, Tensor]:
        name, kind, shape, values = "", 0, [], range(0)
        for number, value in self._fields(tensor):
            if number == _EXTERNAL_DATA or (number == _LOCATION and value):
                raise BundleError(f"{self._path} keeps weights in another file. Refused.")
            if number == _DIMS:
                shape += [value] if isinstance(value, int) else list(self._varints(value))
            elif number == _DATA_TYPE:
                kind = int(value) if isinstance(value, int) else 0
            elif number == _NAME:
                name = self._text(value)
            elif number == _RAW_DATA:
                values = _message(value)
        dtype, bits = _TYPES.get(kind, (f"type {kind}", 8))
        return name, Tensor(dtype, tuple(shape), bits, values.start, len(values))

    def _fields(self, message: range) -> Iterator[tuple[int, int | range]]:
        """Yield each field's number and its value: an integer, or the range of its bytes."""
        at = message.start
        while at < message.stop:
            key, at = self._varint(at)
            if key > _LARGEST_KEY:  # other readers drop the high bits, and find another field
                raise ValueError("an impossible field number")
            wire = key & 7
            if wire == _VARINT:
                value, at = self._varint(at)
                yield key >> 3, value
                continue
            if wire == _BYTES:
                size, at = self._varint(at)
            elif wire in {_FIXED64, _FIXED32}:
                size = 8 if wire == _FIXED64 else 4
            else:
                raise ValueError(f"wire type {wire}")
            if at + size > message.stop:
                raise ValueError("it is cut short")
            yield key >> 3, range(at, at + size)
            at += size

    def _varints(self, packed: range) -> Iterator[int]:
        at = packed.start
        while at < packed.stop:
            value, at = self._varint(at)
            yield value

    def _varint(self, at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = self._data[at]
            at += 1
            value |= (byte & (_MORE - 1)) << shift
            if not byte & _MORE:
                return value, at
            shift += 7
            if shift > 63:  # noqa: PLR2004 # a varint has 64 bits at most
                raise ValueError("an endless number")

    def _text(self, value: int | range) -> str:
        message = _message(value)
        return str(self._data[message.start : message.stop], "utf-8")


def _signed(value: int | range) -> int:
    """Return a varint as the 64-bit two's complement that it is."""
    if isinstance(value, range):
        raise ValueError("a message where a number should be")  # noqa: TRY004 # the file is wrong, not the caller
    return value - 2**64 if value >= 2**63 else value


def _message(value: int | range) -> range:
    if isinstance(value, int):
        raise ValueError("a number where a message should be")  # noqa: TRY004 # the file is wrong, not the caller
    return value
