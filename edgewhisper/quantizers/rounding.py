"""From float weights to integers on a grid: value = (code - zero) * scale, in groups of inputs.

Four ways, each better than the last and slower: the nearest code on a grid over a group's range;
on the grid of the least squared error; of the least error where inputs are large (their mean
squares are the weights); and with error feedback: GPTQ (Frantar et al., arXiv 2210.17323).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from edgewhisper.recipes.schema import Weights

# Of a group's range, tried by a search: more clipping, finer steps.
_SHRINKS = (1.0, 0.96, 0.92, 0.88, 0.84, 0.8, 0.76, 0.72, 0.68, 0.64, 0.6)
_CHUNK = 4096  # rows whose candidates are in memory at once
_TINIEST = 2.0**-14  # the least normal float16
_BLOCK = 128  # columns whose errors reach the columns after them in one product


@dataclass(frozen=True)
class Codes:
    """codes uint8 [outputs, inputs]; scale and zero float32 [outputs, groups]."""

    codes: Tensor
    scale: Tensor
    zero: Tensor

    def values(self) -> Tensor:
        """Return the values of the codes, float32 [outputs, inputs]."""
        outputs, groups = self.scale.shape
        codes = self.codes.reshape(outputs, groups, -1).float()
        return ((codes - self.zero[..., None]) * self.scale[..., None]).reshape(outputs, -1)


def rounded(
    weight: Tensor, weights: Weights, moment: Tensor | None = None, damping: float = 0.01
) -> Codes:
    """Round a weight float32 [outputs, inputs] as a recipe says.

    moment float32 [inputs, inputs] is the mean of x x^T over inputs x, for the ways that need it:
    half of the Hessian of the output's mean squared error, with which GPTQ computes.
    For error feedback, `damping` times the mean of its diagonal is added to its diagonal.
    Scales of groups are float16 values, scales of rows any float32.
    """
    import torch

    calibrated = moment is not None and weights.rounding in {"weighted", "error-feedback"}
    importance = moment.diagonal() if calibrated and moment is not None else None
    parts = [_fitted(rows, weights, importance) for rows in weight.split(_CHUNK)]
    scale, zero = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    if weights.rounding == "error-feedback" and moment is not None:
        codes = _fed_back(weight, scale, zero, moment, damping, weights)
    else:
        values = weight.reshape(*scale.shape, -1)
        codes = _codes(values, scale[..., None], zero[..., None], weights).flatten(1)
    return Codes(codes.to(torch.uint8), scale, zero)


def _codes(values: Tensor, scale: Tensor, zero: Tensor, weights: Weights) -> Tensor:
    """Return the nearest codes, float32 of the shape of the values."""
    lowest, highest = _bounds(weights)
    return (values / scale + zero).round_().clamp_(lowest, highest)


def _bounds(weights: Weights) -> tuple[int, int]:
    """Return the least and the largest code; 8 bits leave out the one without a positive twin."""
    symmetric_byte = weights.bits == 8 and weights.method == "symmetric"  # noqa: PLR2004
    return int(symmetric_byte), (1 << weights.bits) - 1


def _fitted(weight: Tensor, weights: Weights, importance: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return scale and zero point of each group, [outputs, groups]."""
    import torch

    group = weights.group_size or weight.shape[1]
    values = weight.reshape(len(weight), -1, group)
    shares = torch.ones(1, 1, 1) if importance is None else importance.view(1, -1, group)
    best: list[Tensor] = []
    for shrink in _SHRINKS if weights.rounding != "nearest" else (1.0,):
        scale, zero = _grid_of_range(values, shrink, weights)
        codes = _codes(values, scale, zero, weights)
        if weights.rounding != "nearest":
            # the scale of the least squared error for these codes
            steps = codes - zero
            products = (shares * steps * values).sum(-1, keepdim=True)
            squares = (shares * steps * steps).sum(-1, keepdim=True)
            scale = _stored(torch.where(products > 0, products / squares, scale), weights)
            codes = _codes(values, scale, zero, weights)
        error = ((codes - zero).mul_(scale).sub_(values).square_() * shares).sum(-1, keepdim=True)
        candidate = [error, scale, zero]
        if best:
            better = error < best[0]
            candidate = [
                torch.where(better, new, old) for new, old in zip(candidate, best, strict=True)
            ]
        best = candidate
    return best[1][..., 0], best[2][..., 0]


def _grid_of_range(values: Tensor, shrink: float, weights: Weights) -> tuple[Tensor, Tensor]:
    """Return the grid over a share of each group's range."""
    import torch

    levels = (1 << weights.bits) - 1
    if weights.method == "symmetric":
        middle = 1 << (weights.bits - 1)
        largest = values.abs().amax(-1, keepdim=True)
        scale = _stored(shrink * largest / (middle - 1), weights)
        return scale, torch.full_like(scale, middle)
    low = values.amin(-1, keepdim=True).clamp(max=0)
    high = values.amax(-1, keepdim=True).clamp(min=0)
    scale = _stored(shrink * (high - low) / levels, weights)
    return scale, (-shrink * low / scale).round().clamp(0, levels)


def _stored(scale: Tensor, weights: Weights) -> Tensor:
    """Return scales as they can be stored."""
    import torch

    if weights.granularity == "per-group":
        return scale.clamp(min=_TINIEST).half().float()
    return scale.clamp(min=torch.finfo(scale.dtype).tiny)


def _fed_back(
    weight: Tensor,
    scale: Tensor,
    zero: Tensor,
    moment: Tensor,
    damping: float,
    weights: Weights,
) -> Tensor:
    """Return codes float32 [outputs, inputs], rounded input by input.

    Each error is corrected in the inputs that follow. Large inputs first: the many small ones that
    follow correct them. The grid of each group is fixed before, so the order leaves groups where
    they are.
    """
    import torch

    inputs, group = weight.shape[1], weight.shape[1] // scale.shape[1]
    order = moment.diagonal().argsort(descending=True)
    damped = moment[order][:, order].double()
    damped.diagonal().add_(max(damping * float(damped.diagonal().mean()), 1e-12))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    factor = torch.linalg.cholesky(inverse, upper=True).float()
    # one row for each input, so that a step reads and writes memory in order
    rest = weight.T[order].contiguous()
    steps, zeros = (each.T.contiguous()[order // group] for each in (scale, zero))
    codes = torch.empty_like(rest)
    for start in range(0, inputs, _BLOCK):
        end = min(start + _BLOCK, inputs)
        block, errors = rest[start:end], torch.empty_like(rest[start:end])
        for row in range(end - start):
            at = start + row
            codes[at] = _codes(block[row], steps[at], zeros[at], weights)
            value = (codes[at] - zeros[at]) * steps[at]
            errors[row] = (block[row] - value) / factor[at, at]
            block[row + 1 :].addr_(factor[at, at + 1 : end], errors[row], alpha=-1)
        rest[end:].addmm_(factor[start:end, end:].T, errors, alpha=-1)
    return codes[order.argsort()].T.contiguous()
