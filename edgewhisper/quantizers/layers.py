"""Modules that no library has: weights as codes, one tensor for embedding and output layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Codes(nn.Module):
    """A weight [outputs, inputs]: `int8` and `scale`, or `packed`, `scale` and `zero`."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)

    def values(self, rows: Tensor | slice = slice(None)) -> Tensor:
        """Return the selected rows as float32 [*rows, inputs]."""
        scale = self.get_buffer("scale")[rows].float()
        if "int8" in self._buffers:
            return self.get_buffer("int8")[rows].float().mul_(scale)
        packed, zero = self.get_buffer("packed")[rows], self.get_buffer("zero")[rows]
        codes = torch.stack((packed & 15, packed >> 4), dim=-1).flatten(-2)
        return codes.float().sub_(zero).mul_(scale).flatten(-2)


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
        self._shape = like.weight.shape
        self._stride, self._padding = like.stride, like.padding

    def forward(self, hidden: Tensor) -> Tensor:
        """Map [batch, inputs, frames] to [batch, outputs, frames / stride]."""
        weight = self.codes.values()
        if not self.rounds:
            return nn.functional.conv1d(
                hidden, weight.reshape(self._shape), self.bias, self._stride, self._padding
            )
        padding, stride = int(self._padding[0]), int(self._stride[0])
        padded = nn.functional.pad(hidden, (padding, padding))
        windows = padded.unfold(-1, self._shape[-1], stride)  # [batch, inputs, frames, width]
        rows = by_rows(windows.transpose(1, 2).flatten(2))
        return nn.functional.linear(rows, weight, self.bias).transpose(1, 2)


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
