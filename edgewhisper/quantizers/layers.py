"""Modules that no library has: weights as codes, one tensor for embedding and output layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgewhisper_exporters import packing


class Codes(nn.Module):
    """A weight [outputs, inputs]: `int8` and `scale`, or `packed`, `scale` and perhaps `zero`.

    int8 [outputs, inputs] has scales [outputs, 1]; packed uint8 [outputs, groups, bytes] has scale
    and zero [outputs, groups, 1]. Without zero points, the middle of the codes stands for 0.
    """

    def __init__(self, tensors: dict[str, Tensor], bits: int) -> None:
        super().__init__()
        self.bits = bits
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)

    def values(self, rows: Tensor | slice = slice(None)) -> Tensor:
        """Return the selected rows as float32 [*rows, inputs]."""
        scale = self.get_buffer("scale")[rows].float()
        if "int8" in self._buffers:
            return self.get_buffer("int8")[rows].float().mul_(scale)
        codes = unpacked(self.get_buffer("packed")[rows], self.bits).float()
        return codes.sub_(self.zeros(rows)).mul_(scale).flatten(-2)

    def zeros(self, rows: Tensor | slice = slice(None)) -> Tensor | int:
        """Return the selected rows' zero points [*rows, groups, 1], or the one of all."""
        if "zero" in self._buffers:
            return self.get_buffer("zero")[rows]
        return 1 << (self.bits - 1)


def unpacked(packed: Tensor, bits: int) -> Tensor:
    """Return the codes that `packing.pack` packed, uint8 [..., n]."""
    width = packing.kernel_bits(bits)
    if width != bits:
        three = packed.chunk(3, -1)
        parts = zip(three, packing.CARRIED, strict=True)
        carried = [(byte >> left) & taken for byte, (taken, left) in parts]
        kept = [byte & packing.KEPT for byte in three]
        packed = torch.cat([*kept, carried[0] | carried[1] | carried[2]], -1)
    places = [(packed >> place) & ((1 << width) - 1) for place in range(0, 8, width)]
    return torch.stack(places, -1).flatten(-2)


def windows(hidden: Tensor, like: nn.Conv1d | Convolution) -> Tensor:
    """Return what a convolution multiplies: [batch, inputs, frames] as [batch, frames, inputs].

    The new inputs are channels times width, as in the weight [outputs, inputs, width] flattened.
    """
    padding, stride = int(like.padding[0]), int(like.stride[0])
    padded = nn.functional.pad(hidden, (padding, padding))
    return padded.unfold(-1, like.kernel_size[0], stride).transpose(1, 2).flatten(2)


def by_rows(hidden: Tensor) -> Tensor:
    """Round each row [..., inputs] to -127 to 127 steps of a 127th of its largest magnitude.

    Integer engines do this to the inputs of a layer; here it is done in float32.
    """
    step = hidden.abs().amax(-1, keepdim=True).clamp(min=torch.finfo(hidden.dtype).tiny) / 127
    return (hidden / step).round_().mul_(step)


class Linear(nn.Module):
    """torch.nn.Linear over codes; with `rounds` its inputs are rounded to int8."""

    def __init__(self, codes: Codes, bias: Tensor | None, *, rounds: bool = False) -> None:
        super().__init__()
        self.codes = codes
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.rounds = rounds

    def forward(self, hidden: Tensor) -> Tensor:
        """Map [..., inputs] to [..., outputs]."""
        hidden = by_rows(hidden) if self.rounds else hidden
        return nn.functional.linear(hidden, self.codes.values(), self.bias)


class Convolution(nn.Module):
    """torch.nn.Conv1d over codes, its weight [outputs, inputs, width] flattened to two.

    With `rounds`, all inputs of one output frame are rounded as one row.
    """

    def __init__(
        self, codes: Codes, bias: Tensor | None, like: nn.Conv1d, *, rounds: bool = False
    ) -> None:
        super().__init__()
        self.codes = codes
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.rounds = rounds
        self.stride, self.padding, self.kernel_size = like.stride, like.padding, like.kernel_size

    def forward(self, hidden: Tensor) -> Tensor:
        """Map [batch, inputs, frames] to [batch, outputs, frames / stride]."""
        rows = windows(hidden, self)
        rows = by_rows(rows) if self.rounds else rows
        return nn.functional.linear(rows, self.codes.values(), self.bias).transpose(1, 2)


class Embedding(nn.Module):
    """torch.nn.Embedding over codes: only the rows looked up are unpacked."""

    def __init__(self, codes: Codes) -> None:
        super().__init__()
        self.codes = codes

    def forward(self, tokens: Tensor) -> Tensor:
        """Map token ids [...] to vectors [..., width]."""
        return self.codes.values(tokens)


class Output(nn.Module):
    """The output layer: the transposed token embedding, without a tensor of its own."""

    def __init__(self, embedding: Embedding, *, rounds: bool = False) -> None:
        super().__init__()
        self.embedding = embedding
        self.rounds = rounds

    def forward(self, hidden: Tensor) -> Tensor:
        """Map [..., width] to logits [..., vocabulary]."""
        hidden = by_rows(hidden) if self.rounds else hidden
        return nn.functional.linear(hidden, self.embedding.codes.values())
