"""What an ONNX file says it holds, read before any engine opens it, without a protobuf library.

Walks the wire format (protobuf.dev/programming-guides/encoding) along the few fields of
onnx.proto that matter here, and refuses what a bundle never has.
"""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from edgewhisper_runtime.errors import BundleError

# onnx.proto's numbers of the fields that are followed
_GRAPH, _FUNCTION = 7, 25  # of a model
_NODE, _INITIALIZER, _SPARSE = 1, 5, 15  # of a graph
_OP_TYPE, _ATTRIBUTE, _DOMAIN = 4, 5, 7  # of a node
_TENSORS, _SUBGRAPHS, _SPARSE_TENSORS = {5, 10}, {6, 11}, {22, 23}  # of an attribute
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


@dataclass(frozen=True)
class Tensor:
    """A stored tensor: its type's name, its shape, and where in the file its values begin."""

    dtype: str
    shape: tuple[int, ...]
    bits: int
    offset: int = 0

    @property
    def bytes(self) -> int:
        """Its size without the name."""
        return -(-prod(self.shape) * self.bits // 8)


@dataclass
class Contents:
    """How often each operator occurs ("com.microsoft" ones too), and the stored tensors."""

    operators: Counter[str] = field(default_factory=Counter)
    tensors: dict[str, Tensor] = field(default_factory=dict)


def read(path: Path) -> Contents:
    """Return what the file holds.

    Raises BundleError when it is no ONNX file, keeps data elsewhere, or has operators that
    ONNX Runtime does not have itself, functions or subgraphs.
    """
    contents = Contents()
    try:
        with path.open("rb") as file:
            # Not closed by hand: slices of it may live on in an error's traceback.
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        _Reader(memoryview(mapped), path).read_model(contents)
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} is not an ONNX file ({error}). Build again.") from error
    if not contents.operators:
        raise BundleError(f"{path} is not an ONNX file: it has no operators. Build again.")
    return contents


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

    def _read_node(self, node: range, contents: Contents) -> None:
        operator, domain = "", ""
        for number, value in self._fields(node):
            if number == _OP_TYPE:
                operator = self._text(value)
            elif number == _DOMAIN:
                domain = self._text(value)
            elif number == _ATTRIBUTE:
                for part, content in self._fields(_message(value)):
                    if part in _SUBGRAPHS:
                        raise BundleError(f"{self._path} has a subgraph in {operator}. Refused.")
                    if part in _SPARSE_TENSORS:
                        raise BundleError(
                            f"{self._path} has a sparse tensor in {operator}. Refused."
                        )
                    if part in _TENSORS:
                        self._read_tensor(_message(content))
        if domain not in OPERATORS:
            raise BundleError(f"{self._path} needs the operator {operator} of {domain!r}. Refused.")
        contents.operators[operator] += 1

    def _read_tensor(self, tensor: range) -> tuple[str, Tensor]:
        name, kind, shape, offset = "", 0, [], 0
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
                offset = _message(value).start
        dtype, bits = _TYPES.get(kind, (f"type {kind}", 8))
        return name, Tensor(dtype, tuple(shape), bits, offset)

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


def _message(value: int | range) -> range:
    if isinstance(value, int):
        raise ValueError("a number where a message should be")  # noqa: TRY004 # the file is wrong, not the caller
    return value
