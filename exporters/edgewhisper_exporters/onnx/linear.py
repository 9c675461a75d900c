"""Linear layers in ONNX, by the format of the weight and the arithmetic of the product.

Weights are stored once, as the library's own codes. The operator that multiplies them depends on
the number of rows: many in the encoder, a few in the decoder.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgewhisper_exporters import packing
from edgewhisper_exporters.layers import Grid, Layer
from edgewhisper_exporters.onnx.common import step_of_codes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgewhisper_exporters.onnx.graph import Graph

Arithmetic = Literal["float32", "int8"]
_NIBBLE = 4
_BYTE = 8
# MatMulNBits' accuracy_level: the type in which it multiplies
_LEVELS: dict[Arithmetic, int] = {"float32": 1, "int8": 4}
# The float32 kernels of MatMulNBits take blocks up to this.
_LARGEST_FLOAT_BLOCK = 256


@dataclass(frozen=True)
class Rows:
    """Inputs [..., inputs], prepared once for all layers that take them."""

    values: str
    codes: str = ""  # uint8, zero point 128
    scale: str = ""  # float32 [..., 1]: the value of one step of a row's codes


class Linear(ABC):
    """Writes linear layers into a graph."""

    def __init__(self, graph: Graph, arithmetic: Arithmetic) -> None:
        self.graph = graph
        self.arithmetic = arithmetic

    @abstractmethod
    def rows(self, values: str) -> Rows:
        """Prepare inputs for all layers that take them."""

    @abstractmethod
    def product(self, rows: Rows, name: str, weight: Grid) -> str:
        """Return rows times a quantized weight."""

    def linear(self, rows: Rows, name: str, layer: Layer, bias: bool = True) -> str:
        """Return rows times a layer's weight, plus its bias if it has one and `bias` is true."""
        graph, weight = self.graph, layer.weight
        if isinstance(weight, Grid):
            product = self.product(rows, name, weight)
        else:
            product = graph.op("MatMul", rows.values, graph.floats(f"{name}.weight", weight.T))
        if bias and layer.bias is not None:
            product = graph.op("Add", product, graph.floats(f"{name}.bias", layer.bias))
        return product

    def _integers(self, codes: str, scale: str, name: str, weight: Grid, stored: str) -> str:
        """Multiply codes of rows by `stored`, int8 [inputs, outputs], in integers."""
        graph = self.graph
        steps = graph.floats(f"{name}.scale", weight.scale[:, 0])
        one, zero = graph.constant("one", np.float32(1)), graph.constant("row_zero", np.uint8(128))
        product = graph.fused("MatMulIntegerToFloat", codes, stored, one, steps, zero)
        return graph.op("Mul", product, scale)


class Encoder(Linear):
    """Multiplies many rows: whole windows of audio."""

    def rows(self, values: str) -> Rows:
        """Quantize rows where layers multiply integers: each row by its own largest magnitude.

        With one scale for a whole tensor, one loud frame would make all others coarse, and a
        transcript would depend on the rest of its batch.
        """
        if self.arithmetic == "float32":
            return Rows(values)
        graph = self.graph
        last = graph.constant("last_axis", np.array([-1]))
        # Two passes over the rows cost less than a copy of their magnitudes.
        highest, lowest = (graph.op(kind, values, last) for kind in ("ReduceMax", "ReduceMin"))
        step = step_of_codes(graph, graph.op("Max", highest, graph.op("Neg", lowest)))
        # One scale for each row of a matrix: ONNX Runtime divides and rounds in one pass.
        per_row = graph.op("Reshape", step, graph.constant("flatten", np.array([-1])))
        zero = graph.constant("row_zero", np.uint8(128))
        zeros = graph.op("Expand", zero, graph.op("Shape", per_row))
        matrix = graph.op("Flatten", values, axis=2)
        codes = graph.op("QuantizeLinear", matrix, per_row, zeros, axis=0)
        return Rows(values, graph.op("Reshape", codes, graph.op("Shape", values)), step)

    def product(self, rows: Rows, name: str, weight: Grid) -> str:
        """Multiply integers where rows and weight have one scale for each row, else blocks."""
        if not (rows.codes and _is_symmetric_bytes(weight)):
            return blocks(self.graph, rows.values, name, weight, self.arithmetic)
        stored = self.graph.constant(f"{name}.int8", _signed(weight).T)
        return self._integers(rows.codes, rows.scale, name, weight, stored)


class Decoder(Linear):
    """Multiplies a few rows: a token of each utterance."""

    def __init__(self, graph: Graph, arithmetic: Arithmetic) -> None:
        """Write into a graph."""
        super().__init__(graph, arithmetic)
        self._looked_up: set[str] = set()

    def rows(self, values: str) -> Rows:
        """Return the inputs unchanged: a product of blocks quantizes them itself."""
        return Rows(values)

    def product(self, rows: Rows, name: str, weight: Grid) -> str:
        """Multiply integers where rows and weight have one scale for each row, else blocks.

        In integers four rows cost little more than one, and what a row gives does not depend on
        the others. In float32 ONNX Runtime has a fast kernel for 4 bits only, so 8 bits are stored
        as two planes of 4: code = 16 * high + low.
        """
        if self._in_integers(weight):
            return self._product_of_integers(rows.values, name, weight)
        if not self._in_planes(weight):
            return blocks(self.graph, rows.values, name, weight, self.arithmetic)
        high, low = planes(weight)
        upper = blocks(self.graph, rows.values, name, high, "float32", ".int8.high")
        lower = blocks(self.graph, rows.values, name, low, "float32", ".int8.low")
        return self._of_planes(upper, lower)

    def lookup(self, tokens: str, name: str, weight: NDArray[np.floating] | Grid) -> str:
        """Return the weight's rows for token ids, from the tensors that `product` uses."""
        graph = self.graph
        if not isinstance(weight, Grid):
            return graph.op("Gather", graph.floats(f"{name}.weight", weight), tokens)
        if self._in_integers(weight):
            self._looked_up.add(name)
            codes = graph.rows(graph.constant(f"{name}.int8", _signed(weight)))
            steps = graph.floats(f"{name}.scale", weight.scale[:, 0])
            last = graph.constant("last_axis", np.array([-1]))
            steps = graph.op("Unsqueeze", graph.op("Gather", steps, tokens), last)
            return graph.op("Mul", graph.op("Cast", codes, to=1), steps)
        if self._in_planes(weight):
            high, low = (
                self._codes(name, plane, part)
                for plane, part in zip(planes(weight), (".int8.high", ".int8.low"), strict=True)
            )
            codes = self._of_planes(high, low)
        else:
            codes = self._codes(name, weight)
        last = graph.constant("last_axis", np.array([-1]))
        if _is_symmetric(weight):
            zero = graph.constant(f"middle_{weight.bits}", np.float32(weight.middle))
        else:
            zero = self._zeros(tokens, name, weight)
        steps = graph.op("Gather", graph.floats(f"{name}.scale", weight.scale), tokens)
        centered = graph.op("Sub", codes, zero)
        values = graph.op("Mul", centered, graph.op("Unsqueeze", steps, last))
        return graph.op("Reshape", values, graph.constant("flat", np.array([0, 0, -1])))

    def _product_of_integers(self, values: str, name: str, weight: Grid) -> str:
        graph = self.graph
        last = graph.constant("last_axis", np.array([-1]))
        scale = step_of_codes(graph, graph.op("ReduceMax", graph.op("Abs", values), last))
        one, zero = graph.constant("one", np.float32(1)), graph.constant("row_zero", np.uint8(128))
        codes = graph.op("QuantizeLinear", graph.op("Div", values, scale), one, zero)
        if name in self._looked_up:  # stored by rows; the engine transposes it when it loads
            stored = graph.op("Transpose", f"{name}.int8", perm=[1, 0])
        else:
            stored = graph.constant(f"{name}.int8", _signed(weight).T)
        return self._integers(codes, scale, name, weight, stored)

    def _in_integers(self, weight: Grid) -> bool:
        return self.arithmetic == "int8" and _is_symmetric_bytes(weight)

    def _in_planes(self, weight: Grid) -> bool:
        return self.arithmetic == "float32" and weight.bits == _BYTE

    def _of_planes(self, high: str, low: str) -> str:
        """Return 16 times the value of the high plane plus the value of the low plane."""
        upper = self.graph.op("Mul", high, self.graph.constant("sixteen", np.float32(16)))
        return self.graph.op("Add", upper, low)

    def _zeros(self, tokens: str, name: str, weight: Grid) -> str:
        """Return the zero points of tokens' rows as floats [batch, n, groups, 1].

        They come from MatMulNBits' own tensor: as many bits for each block as for a code; a group
        may have several blocks.
        """
        if weight.bits == _BYTE or not _is_whole(weight):
            raise TypeError(f"{name} has zero points that no lookup takes")
        graph, block = self.graph, _block(weight, self.arithmetic)
        groups, repeats = weight.scale.shape[1], weight.group // block
        stored = _packed_zeros(graph, name, weight, block)
        codes = self._split(graph.op("Gather", stored, tokens), packing.kernel_bits(weight.bits))
        last = graph.constant("last_axis", np.array([-1]))
        first, one, count = (
            graph.constant(f"first_{n}", np.array([n])) for n in (0, 1, groups * repeats)
        )
        codes = graph.op("Slice", codes, first, count, last)  # without the padding
        shape = graph.constant("zeros_by_group", np.array([0, 0, groups, repeats]))
        codes = graph.op("Reshape", codes, shape)
        return graph.op("Cast", graph.op("Slice", codes, first, one, last), to=1)

    def _codes(self, name: str, weight: Grid, part: str = "") -> str:
        """Return the codes of tokens' rows as floats [batch, n, groups, values of a group]."""
        graph, block = self.graph, _block(weight, self.arithmetic)
        codes = graph.rows(_stored(graph, name + part, weight, block))
        if weight.bits != _BYTE:
            widened = _widened(graph, codes, weight.bits)
            codes = self._split(widened, packing.kernel_bits(weight.bits))
        shape = np.array([0, 0, weight.scale.shape[1], weight.group])
        codes = graph.op("Reshape", codes, graph.constant(f"groups_of_{weight.group}", shape))
        return graph.op("Cast", codes, to=1)

    def _split(self, packed: str, bits: int) -> str:
        """Return the codes of each byte of [batch, n, ...], as [batch, n, codes]."""
        graph = self.graph
        mask = graph.constant(f"lowest_{bits}_bits", np.uint8((1 << bits) - 1))
        last = graph.constant("last_axis", np.array([-1]))
        parts = [
            graph.op("Unsqueeze", graph.op("BitwiseAnd", _right(graph, packed, place), mask), last)
            for place in range(0, _BYTE, bits)
        ]
        together = graph.op("Concat", *parts, axis=-1)
        return graph.op("Reshape", together, graph.constant("flat", np.array([0, 0, -1])))


def planes(weight: Grid) -> tuple[Grid, Grid]:
    """Split 8-bit codes into two grids of 4 bits: the weight is 16 times the first plus the second.

    code - zero = 16 * (high - 8) + low - (zero - 128)
    """
    four, nibble = np.uint8(4), np.uint8(15)
    middle = np.full(weight.zero.shape, 8, np.float32)
    high = Grid(weight.codes >> four, weight.scale, middle, _NIBBLE)
    return high, Grid(weight.codes & nibble, weight.scale, weight.zero - 128, _NIBBLE)


def blocks(
    graph: Graph, values: str, name: str, weight: Grid, arithmetic: Arithmetic, part: str = ""
) -> str:
    """Multiply by a grid with MatMulNBits; zero points that are not whole are added separately.

    sum((code - zero) * scale * x) = sum((code - middle) * scale * x)
    + sum over groups of (middle - zero) * scale * (sum of x in the group)

    `part` is a suffix that distinguishes the codes of grids that share a scale.
    """
    block = _block(weight, arithmetic)
    outputs, inputs = weight.codes.shape
    whole = _is_whole(weight)
    arguments = [
        values,
        _widened(graph, _stored(graph, name + part, weight, block), weight.bits),
        _steps(graph, name, weight, block),
    ]
    if whole and not (_is_symmetric(weight) and weight.middle == _default_zero(weight)):
        arguments.append(_packed_zeros(graph, name + part, weight, block))
    product = graph.fused(
        "MatMulNBits",
        *arguments,
        K=inputs,
        N=outputs,
        bits=packing.kernel_bits(weight.bits),
        block_size=block,
        accuracy_level=_LEVELS[arithmetic],
    )
    if whole:
        return product
    shape = graph.constant(f"sums_of_{weight.group}", np.array([0, 0, -1, weight.group]))
    last = graph.constant("last_axis", np.array([-1]))
    sums = graph.op("ReduceSum", graph.op("Reshape", values, shape), last, keepdims=0)
    offset = ((_default_zero(weight) - weight.zero) * weight.scale).astype(np.float32)
    return graph.op(
        "Add", product, graph.op("MatMul", sums, graph.floats(f"{name}{part}.offset", offset.T))
    )


def _steps(graph: Graph, name: str, weight: Grid, block: int) -> str:
    """Return the scale of every block in order; each group's scale is stored once."""
    stored = graph.floats(f"{name}.scale", weight.scale)
    flat = graph.constant("flatten", np.array([-1]))
    repeats = weight.group // block
    if repeats > 1:
        last = graph.constant("last_axis", np.array([-1]))
        shape = graph.constant(f"repeat_{repeats}", np.array([1, 1, repeats]))
        stored = graph.op("Expand", graph.op("Unsqueeze", stored, last), shape)
    return graph.op("Reshape", stored, flat)


def _stored(graph: Graph, name: str, weight: Grid, block: int) -> str:
    """Store codes uint8 [outputs, blocks, bytes of a block], packed."""
    codes = weight.codes.reshape(len(weight.codes), -1, block)
    return graph.constant(f"{name}.int{weight.bits}", packing.pack(codes, weight.bits))


def _widened(graph: Graph, packed: str, bits: int) -> str:
    """Return packed codes as the kernel reads them: of 3 bits, as 4 (see `packing`).

    Of constants the engine computes this once, when it loads the file.
    """
    if packing.kernel_bits(bits) == bits:
        return packed
    thirds = [f"{packed}.{place}" for place in range(3)]
    graph.op("Split", packed, output=thirds, axis=-1, num_outputs=3)
    carried = [
        graph.op(
            "BitwiseAnd",
            _right(graph, third, left),
            graph.constant(f"bits_{taken:x}", np.uint8(taken)),
        )
        for third, (taken, left) in zip(thirds, packing.CARRIED, strict=True)
    ]
    fourth = graph.op("BitwiseOr", graph.op("BitwiseOr", *carried[:2]), carried[2])
    kept = graph.constant("kept_bits", np.uint8(packing.KEPT))
    return graph.op("Concat", *[graph.op("BitwiseAnd", t, kept) for t in thirds], fourth, axis=-1)


def _right(graph: Graph, packed: str, places: int) -> str:
    """Return bytes shifted to the right."""
    if places == 0:
        return packed
    count = graph.constant(f"shift_{places}", np.uint8(places))
    return graph.op("BitShift", packed, count, direction="RIGHT")


def _packed_zeros(graph: Graph, name: str, weight: Grid, block: int) -> str:
    """Store the integer zero point of every block, each row's in as few bytes as possible."""
    codes = np.repeat(weight.zero.astype(np.uint8), weight.group // block, axis=1)
    bits = packing.kernel_bits(weight.bits)
    even = np.pad(codes, ((0, 0), (0, -codes.shape[1] % (_BYTE // bits))))
    return graph.constant(f"{name}.zero", packing.pack(even, bits))


def _block(weight: Grid, arithmetic: Arithmetic) -> int:
    """Return the block size for MatMulNBits: the largest power of two that divides a group."""
    block = weight.group & -weight.group
    return min(block, _LARGEST_FLOAT_BLOCK) if arithmetic == "float32" else block


def _default_zero(weight: Grid) -> int:
    """Return the zero point that MatMulNBits assumes by default."""
    return 1 << (packing.kernel_bits(weight.bits) - 1)


def _is_whole(weight: Grid) -> bool:
    """Tell whether all zero points are integers in the range of the codes."""
    zero = weight.zero
    return bool(((zero == np.round(zero)) & (zero >= 0) & (zero < 1 << weight.bits)).all())


def _is_symmetric(weight: Grid) -> bool:
    """Tell whether every zero point is the middle of the codes, which need not be stored."""
    return bool((weight.zero == weight.middle).all())


def _is_symmetric_bytes(weight: Grid) -> bool:
    """Tell whether a weight has 8 bits and one scale for each output, and no zero points."""
    return weight.bits == _BYTE and weight.scale.shape[1] == 1 and _is_symmetric(weight)


def _signed(weight: Grid) -> NDArray[np.int8]:
    """Return the codes of a symmetric weight of 8 bits as integers around 0."""
    return (weight.codes.astype(np.int16) - 128).astype(np.int8)
