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
_GRAPH, _METADATA, _FUNCTION = 7, 14, 25  # of a model
_NODE, _INITIALIZER, _SPARSE = 1, 5, 15  # of a graph
_OP_TYPE, _ATTRIBUTE, _DOMAIN = 4, 5, 7  # of a node
_ATTRIBUTE_TENSOR, _SUBGRAPHS = 5, {6, 11}  # of an attribute
_DIMS, _DATA_TYPE, _NAME, _EXTERNAL_DATA, _LOCATION = 1, 2, 8, 13, 14  # of a tensor
_KEY, _VALUE = 1, 2  # of a string pair
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MORE = 0x80
# bits of an element, by TensorProto.DataType
_TYPES = {
    1: ("float32", 32), 2: ("uint8", 8), 3: ("int8", 8), 6: ("int32", 32), 7: ("int64", 64),
    9: ("bool", 8), 10: ("float16", 16), 11: ("float64", 64), 16: ("bfloat16", 16),
    21: ("uint4", 4), 22: ("int4", 4),
}  # fmt: skip
OPERATORS = ("", "ai.onnx", "com.microsoft")  # the domains that ONNX Runtime itself implements


@dataclass(frozen=True)
class Tensor:
    """A stored tensor: its type's name and its shape."""

    dtype: str
    shape: tuple[int, ...]
    bits: int

    @property
    def bytes(self) -> int:
        """Its size without the name."""
        return -(-prod(self.shape) * self.bits // 8)


@dataclass
class Contents:
    """How often each operator occurs ("com.microsoft" ones too), and the stored tensors."""

    operators: Counter[str] = field(default_factory=Counter)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)


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
        _read_model(memoryview(mapped), contents, path)
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} is not an ONNX file ({error}). Build again.") from error
    if not contents.operators:
        raise BundleError(f"{path} is not an ONNX file: it has no operators. Build again.")
    return contents


def _read_model(view: memoryview, contents: Contents, path: Path) -> None:
    for number, value in _fields(view):
        if number == _FUNCTION:
            raise BundleError(f"{path} defines operators of its own. Refused.")
        if number == _METADATA:
            pair = {key: _text(text) for key, text in _fields(_message(value))}
            contents.metadata[pair.get(_KEY, "")] = pair.get(_VALUE, "")
        if number == _GRAPH:
            for part, content in _fields(_message(value)):
                if part == _NODE:
                    _read_node(_message(content), contents, path)
                elif part == _INITIALIZER:
                    name, tensor = _read_tensor(_message(content), path)
                    contents.tensors[name] = tensor
                elif part == _SPARSE:
                    raise BundleError(f"{path} has sparse tensors. Refused.")


def _read_node(node: memoryview, contents: Contents, path: Path) -> None:
    operator, domain = "", ""
    for number, value in _fields(node):
        if number == _OP_TYPE:
            operator = _text(value)
        elif number == _DOMAIN:
            domain = _text(value)
        elif number == _ATTRIBUTE:
            for part, content in _fields(_message(value)):
                if part in _SUBGRAPHS:
                    raise BundleError(f"{path} has a subgraph in {operator}. Refused.")
                if part == _ATTRIBUTE_TENSOR:
                    _read_tensor(_message(content), path)
    if domain not in OPERATORS:
        raise BundleError(f"{path} needs the operator {operator} of {domain!r}. Refused.")
    contents.operators[operator] += 1


def _read_tensor(tensor: memoryview, path: Path) -> tuple[str, Tensor]:
    name, kind, shape = "", 0, []
    for number, value in _fields(tensor):
        if number == _EXTERNAL_DATA or (number == _LOCATION and value):
            raise BundleError(f"{path} keeps weights in another file. Refused.")
        if number == _DIMS:
            shape += [value] if isinstance(value, int) else list(_varints(value))
        elif number == _DATA_TYPE:
            kind = int(value) if isinstance(value, int) else 0
        elif number == _NAME:
            name = _text(value)
    dtype, bits = _TYPES.get(kind, (f"type {kind}", 8))
    return name, Tensor(dtype, tuple(shape), bits)


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield each field's number and its value: a varint's integer, or the bytes."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        wire = key & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if wire == _BYTES:
            size, at = _varint(message, at)
        elif wire in {_FIXED64, _FIXED32}:
            size = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at + size > len(message):
            raise ValueError("it is cut short")
        yield key >> 3, message[at : at + size]
        at += size


def _varints(packed: memoryview) -> Iterator[int]:
    at = 0
    while at < len(packed):
        value, at = _varint(packed, at)
        yield value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & (_MORE - 1)) << shift
        if not byte & _MORE:
            return value, at
        shift += 7
        if shift > 63:  # noqa: PLR2004 # a varint has 64 bits at most
            raise ValueError("an endless number")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message should be")  # noqa: TRY004 # the file is wrong, not the caller
    return value


def _text(value: int | memoryview) -> str:
    return str(_message(value), "utf-8")
