"""What a layer's inputs are like on calibration speech: means, products, and largest magnitudes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgewhisper.quantizers.layers import windows
from edgewhisper_runtime.errors import QuantizationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor, nn

OUTPUT, EMBEDDING = "proj_out", "model.decoder.embed_tokens"
_CROSS_KEYS = "model.decoder.layers.0.encoder_attn.k_proj"
_TOGETHER = 1024  # rows of a product
_LEAST_DAMPING = 0.01  # as GPTQ's authors have it


@dataclass(frozen=True)
class Inputs:
    """Statistics of input vectors x, all float32.

    mean [inputs]: E[x]. covariance [inputs, inputs]. largest [inputs]: max |x|. count: of vectors.
    """

    mean: Tensor
    covariance: Tensor
    largest: Tensor
    count: int

    @property
    def damping(self) -> float:
        """How much of the mean square to add to each input's own, for `rounding`.

        The fewer vectors for the number of inputs, the less their products say of other speech.
        """
        return min(max(_LEAST_DAMPING, len(self.mean) / (2 * self.count)), 1)

    def moment(self) -> Tensor:
        """Return E[x x^T], float32 [inputs, inputs]: it counts where no bias can take the mean."""
        import torch

        return self.covariance + torch.outer(self.mean, self.mean)

    def divided(self, by: Tensor) -> Inputs:
        """Return the statistics of x / by."""
        import torch

        covariance = self.covariance / torch.outer(by, by)
        return Inputs(self.mean / by, covariance, self.largest / by, self.count)


def source(name: str) -> str:
    """Return the layer whose inputs stand for those of a layer: layers that read the same tensor.

    The keys and values of all cross-attentions read the encoder's output. The token embedding
    has the output layer's weight, so its errors count where that layer multiplies.
    """
    if name == EMBEDDING:
        return OUTPUT
    attention, _, leaf = name.rpartition(".")
    if leaf not in {"k_proj", "v_proj"}:
        return name
    return _CROSS_KEYS if attention.endswith("encoder_attn") else f"{attention}.q_proj"


def measure(
    model: nn.Module, names: Iterable[str], calibrate: Callable[[], None]
) -> dict[str, Inputs]:
    """Run the calibration; return the statistics of the named layers' sources, by their names.

    Raises QuantizationError where a layer got no inputs.
    """
    sums = {name: _Sums() for name in dict.fromkeys(map(source, names))}
    hooks = [
        model.get_submodule(name).register_forward_pre_hook(each.add) for name, each in sums.items()
    ]
    try:
        calibrate()
    finally:
        for hook in hooks:
            hook.remove()
    if unread := [name for name, each in sums.items() if not each.count]:
        raise QuantizationError(
            f"no calibration speech reached {', '.join(unread[:3])}. Calibrate on more utterances."
        )
    return {name: each.inputs() for name, each in sums.items()}


class _Sums:
    """Sums over input vectors, taken by a layer's forward hook.

    A decoder reads a row or a few at a time, so rows are collected for larger products. Sums are of
    differences from the first rows' mean, or a large mean would leave no digits for a covariance.
    """

    def __init__(self) -> None:
        self._waiting: list[Tensor] = []
        self._rows = 0  # of those
        self.count = 0  # of all rows
        self._near_mean: Any = None
        self._total: Any = 0
        self._products: Any = 0
        self._largest: Any = 0

    def add(self, module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        """Add the inputs of one call."""
        import torch

        hidden = arguments[0]
        if isinstance(module, torch.nn.Conv1d):
            hidden = windows(hidden, module)
        self._waiting.append(hidden.flatten(0, -2))
        self._rows += len(self._waiting[-1])
        self.count += len(self._waiting[-1])
        if self._rows >= _TOGETHER:
            self._sum()

    def inputs(self) -> Inputs:
        """Return the statistics."""
        import torch

        self._sum()
        offset = self._total / self.count
        covariance = self._products / self.count - torch.outer(offset, offset)
        return Inputs(self._near_mean + offset, covariance, self._largest, self.count)

    def _sum(self) -> None:
        import torch

        if not self._waiting:
            return
        rows = torch.cat(self._waiting)
        self._waiting.clear()
        self._rows = 0
        self._largest = torch.maximum(rows.abs().amax(0), torch.as_tensor(self._largest))
        if self._near_mean is None:
            self._near_mean = rows.mean(0)
        rows -= self._near_mean
        self._total = self._total + rows.sum(0)
        self._products = self._products + rows.T @ rows
