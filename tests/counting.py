"""A backend that counts what it is asked to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgewhisper_runtime.decode.loop import Backend


class Counting:
    """A backend that notes each call of another's encoder, and counts those of its decoder.

    Of the encoder: the batch size and the frames.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.vocabulary = backend.vocabulary
        self.encoded: list[tuple[int, int]] = []
        self.steps = 0

    def encode(self, features: np.ndarray) -> Any:
        self.encoded.append((len(features), features.shape[2]))
        return self._backend.encode(features)

    def start(self, encoded: Any) -> Any:
        return self._backend.start(encoded)

    def step(self, tokens: np.ndarray, cache: Any) -> np.ndarray:
        self.steps += 1
        return self._backend.step(tokens, cache)

    def verify(self, tokens: np.ndarray, cache: Any) -> np.ndarray:
        self.steps += 1
        return self._backend.verify(tokens, cache)

    def shorten(self, cache: Any, count: int) -> None:
        self._backend.shorten(cache, count)

    def join(self, caches: Sequence[Any]) -> Any:
        return self._backend.join(caches)

    def reorder(self, cache: Any, rows: np.ndarray) -> Any:
        return self._backend.reorder(cache, rows)

    def attention(
        self, tokens: np.ndarray, encoded: Any, row: int, heads: Sequence[tuple[int, int]]
    ) -> np.ndarray:
        return self._backend.attention(tokens, encoded, row, heads)
