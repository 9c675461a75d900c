"""Channels to one, without the speech that their sum would cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgewhisper_runtime.errors import AudioError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

LOUDEST = 64.0
"""Louder samples are of another range than -1 to 1.

Features are relative to the loudest of them, and texts stay right up to about here (36 dB).
"""
_HOPS = 10  # a second
_CANCELLED, _RESTORED = 0.25, 0.5  # of the energy that the mean of unrelated channels has
_QUIET = 0.25  # of the loudest channel's energy: another one takes over


class Mixer:
    """Averages channels; where they cancel each other, it takes the loudest of them instead.

    It decides for each tenth of a second of its own, the same for any cut into blocks: channels
    cancel where their mean has less than a quarter of the energy that it would have if they were
    unrelated, up to where it has half. A change is faded over one tenth.
    """

    def __init__(self, rate: int) -> None:
        self._hop = max(rate // _HOPS, 1)
        self._rest: Samples | None = None
        self._channel: int | None = None  # None: the mean
        self._begun = False

    def feed(self, block: Samples) -> Samples:
        """Take samples [n, channels]; return mono samples [m], some of them from before."""
        if block.shape[1] == 1:
            return block[:, 0]
        if self._rest is not None:
            block = np.concatenate([self._rest, block])
        whole = len(block) // self._hop * self._hop
        self._rest = block[whole:]
        hops = block[:whole].reshape(-1, self._hop, block.shape[1])
        return np.concatenate([np.zeros(0, np.float32), *map(self._mix, hops)])

    def finish(self) -> Samples:
        """Return what was held back."""
        if self._rest is None or not len(self._rest):
            return np.zeros(0, np.float32)
        return self._mix(self._rest)

    def _mix(self, hop: Samples) -> Samples:
        mean = hop.mean(axis=1)
        before = mean if self._channel is None else hop[:, self._channel]
        energies = hop.var(axis=0, dtype=np.float64)
        if not energies.any():
            return before
        channel = self._choose(energies, float(mean.var(dtype=np.float64)))
        after = mean if channel is None else hop[:, channel]
        changed = self._begun and channel != self._channel
        self._channel, self._begun = channel, True
        if not changed:
            return after
        fade = np.linspace(0, 1, len(hop), dtype=np.float32)
        return before + fade * (after - before)

    def _choose(self, energies: NDArray[np.float64], energy: float) -> int | None:
        """Return the channel to take, None for the mean."""
        limit = _CANCELLED if self._channel is None else _RESTORED
        if energy >= limit * energies.sum() / len(energies) ** 2:
            return None
        loudest = int(energies.argmax())
        if self._channel is None or energies[self._channel] < _QUIET * energies[loudest]:
            return loudest
        return self._channel


def check_range(samples: Samples, subject: str, where: str = "") -> None:
    """Raise AudioError for samples that are no sound: NaN, infinite, or far from -1 to 1."""
    peak = max(float(samples.max()), -float(samples.min()))  # NaN if one of them is
    if not np.isfinite(peak):
        raise AudioError(
            f"{subject} NaN or infinite samples{where}. Export it again as integer PCM."
        )
    if peak > LOUDEST:
        raise AudioError(
            f"{subject} samples of up to {peak:.4g}{where}: they are not within -1 to 1. "
            "Divide what was 16-bit by 32768, or export it again as integer PCM."
        )
