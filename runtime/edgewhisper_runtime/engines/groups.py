"""Rows of different lengths, for engines that compute rows of one length only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edgewhisper_runtime.decode.loop import Backend

if TYPE_CHECKING:
    from numpy.typing import NDArray


class OneLength(Backend, Protocol):
    """A backend that joins only caches of one length of audio and of text."""

    def shape(self, cache: Any) -> tuple[int, int, int]:
        """Return a cache's rows, the positions of its audio, and its tokens."""


@dataclass
class _Cache:
    """Caches of one length each. `places` int64 [batch]: which of all their rows each row is."""

    groups: list[Any]
    places: NDArray[np.int64]


class Grouped:
    """A backend whose rows may differ in length: those of one length are computed together."""

    def __init__(self, backend: OneLength) -> None:
        self.backend = backend
        self.vocabulary = backend.vocabulary

    def encode(self, features: NDArray[np.float32]) -> Any:
        """See `Backend.encode`."""
        return self.backend.encode(features)

    def start(self, encoded: Any) -> _Cache:
        """See `Backend.start`."""
        cache = self.backend.start(encoded)
        rows, _, _ = self.backend.shape(cache)
        return _Cache([cache], np.arange(rows))

    def step(self, tokens: NDArray[np.int64], cache: _Cache) -> NDArray[np.float32]:
        """See `Backend.step`."""
        by_group = np.empty_like(tokens)
        by_group[cache.places] = tokens
        split = np.split(by_group, self._ends(cache)[:-1])
        logits = [
            self.backend.step(own, group) for own, group in zip(split, cache.groups, strict=True)
        ]
        return np.concatenate(logits)[cache.places]

    def verify(self, tokens: NDArray[np.int64], cache: _Cache) -> NDArray[np.float32]:
        """See `Backend.verify`."""
        (group,) = cache.groups
        return self.backend.verify(tokens, group)

    def shorten(self, cache: _Cache, count: int) -> None:
        """See `Backend.shorten`."""
        (group,) = cache.groups
        self.backend.shorten(group, count)

    def reorder(self, cache: _Cache, rows: NDArray[np.int64]) -> _Cache:
        """See `Backend.reorder`."""
        before = cache.places[rows]
        places, groups, count, begin = np.zeros_like(before), [], 0, 0
        for group, end in zip(cache.groups, self._ends(cache), strict=True):
            own = np.flatnonzero((begin <= before) & (before < end))
            if len(own):
                groups.append(self.backend.reorder(group, before[own] - begin))
                places[own] = count + np.arange(len(own))
                count += len(own)
            begin = end
        return _Cache(groups, places)

    def join(self, caches: Sequence[_Cache]) -> _Cache:
        """See `Backend.join`."""
        of_length: dict[tuple[int, int], list[tuple[Any, NDArray[np.int64]]]] = {}
        places, begin = [], 0
        for cache in caches:
            places.append(begin + cache.places)
            for group in cache.groups:
                rows, audio, text = self.backend.shape(group)
                of_length.setdefault((audio, text), []).append((group, begin + np.arange(rows)))
                begin += rows
        groups = [
            self.backend.join([group for group, _ in same]) if len(same) > 1 else same[0][0]
            for same in of_length.values()
        ]
        order = np.concatenate([own for same in of_length.values() for _, own in same])
        return _Cache(groups, np.argsort(order)[np.concatenate(places)])

    def attention(
        self, tokens: NDArray[np.int64], encoded: Any, row: int, heads: Sequence[tuple[int, int]]
    ) -> NDArray[np.float32]:
        """See `Backend.attention`."""
        return self.backend.attention(tokens, encoded, row, heads)

    def peak_device_bytes(self) -> int | None:
        """Return the peak memory of tensors on a device in bytes, where the engine knows it."""
        peak: int | None = getattr(self.backend, "peak_device_bytes", lambda: None)()
        return peak

    def _ends(self, cache: _Cache) -> NDArray[np.int64]:
        """Return where each group's rows end among all."""
        return np.cumsum([self.backend.shape(group)[0] for group in cache.groups])
