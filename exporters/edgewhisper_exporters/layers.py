"""The input of an exporter: a variant's layers, their weights as floats or integers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgewhisper_runtime.decode.loop import Backend


@dataclass(frozen=True)
class Grid:
    """A quantized weight: the value of a code is (code - zero) * scale.

    codes uint8 [outputs, inputs], each below 2 ** bits; scale and zero float [outputs, groups]. A
    group is a run of inputs of one output, all of the same length. A zero point need not be whole.
    """

    codes: NDArray[np.uint8]
    scale: NDArray[np.floating]
    zero: NDArray[np.floating]
    bits: int

    @classmethod
    def of_signed(cls, integers: NDArray[np.int8], scale: NDArray[np.floating]) -> Grid:
        """Return the grid of integers [outputs, inputs] times scales [outputs, 1]."""
        codes = (integers.astype(np.int16) + 128).astype(np.uint8)
        return cls(codes, scale, np.full_like(scale, 128), 8)

    @property
    def group(self) -> int:
        """How many inputs share a scale."""
        return int(self.codes.shape[1] // self.scale.shape[1])

    @property
    def middle(self) -> int:
        """The zero point of a symmetric grid."""
        return 1 << (self.bits - 1)

    def values(self) -> NDArray[np.float32]:
        """Return the values of the codes, float32 [outputs, inputs]."""
        outputs, groups = self.scale.shape
        codes = self.codes.reshape(outputs, groups, -1).astype(np.float32)
        centered = codes - self.zero[:, :, None].astype(np.float32)
        return (centered * self.scale[:, :, None].astype(np.float32)).reshape(outputs, -1)


@dataclass(frozen=True)
class Layer:
    """A weight [outputs, inputs] (of a convolution [outputs, inputs, width]) and its bias."""

    weight: NDArray[np.floating] | Grid
    bias: NDArray[np.floating] | None = None


@dataclass(frozen=True)
class Model:
    """A Whisper model's layers by the names that Hugging Face gives its modules.

    A norm's weight is its gain. "proj_out" is absent where the output layer is the token
    embedding. `heads` are those of the encoder and of the decoder.
    """

    layers: Mapping[str, Layer]
    heads: tuple[int, int]


@dataclass(frozen=True)
class Variant:
    """The input of an exporter: the file of the weights, and the model loaded from it.

    `network` is Hugging Face's model with quantized layers, `backend` runs it. `recipe` has the
    recipe's keys. `model` returns the layers as floats or integers; it raises RecipeError for a
    quantized layer that has no integers.
    """

    weights: Path
    network: Any
    backend: Backend
    recipe: Mapping[str, Any]
    model: Callable[[], Model]
