"""Audio of any length as windows of at most 30 s: cut where it is quiet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from edgewhisper_runtime.audio import SAMPLE_RATE
from edgewhisper_runtime.audio.features import WINDOW_SECONDS

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WINDOW = WINDOW_SECONDS * SAMPLE_RATE
_EARLIEST_CUT = 20 * SAMPLE_RATE
_FRAME = SAMPLE_RATE // 100
_PAUSE_FRAMES = 20
_INEXACT = 2 * SAMPLE_RATE // 5  # how far from a pause its timestamp may be


def windows(blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """Regroup blocks of samples [n] at 16 kHz into windows of at most 30 s, in constant memory.

    What fits into one window is not cut. Longer audio is cut in the middle of the quietest
    0.2 s between second 20 and second 30 of each window; the windows joined are the audio.
    """
    held = np.zeros(0, dtype=np.float32)
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) > _WINDOW:
            cut = _quietest(held[_EARLIEST_CUT:_WINDOW]) + _EARLIEST_CUT
            yield held[:cut]
            held = held[cut:]
    if len(held):
        yield held


class Reader:
    """Samples of a stream, held from where they are still needed to where they were read."""

    def __init__(self, blocks: Iterable[NDArray[np.float32]]) -> None:
        self._blocks = iter(blocks)
        self._held = np.zeros(0, dtype=np.float32)
        self._start = 0

    def window(self, start: int) -> NDArray[np.float32]:
        """Return up to 30 s from sample `start` on, none at the end of the stream.

        What lies before is let go: `start` never goes back.
        """
        self._held, self._start = self._held[start - self._start :], start
        while len(self._held) < _WINDOW and (block := next(self._blocks, None)) is not None:
            self._held = np.concatenate([self._held, block])
        return self._held[:_WINDOW]


def pause_near(samples: NDArray[np.float32], at: int) -> int:
    """Return where it is quietest, for 0.2 s, within 0.4 s of sample `at` of a window.

    Timestamps are not exact: cut right there, a word at the border would be lost or heard twice.
    """
    if at >= len(samples):
        return len(samples)
    begin = max(at - _INEXACT, 0)
    return begin + _quietest(samples[begin : at + _INEXACT])


def _quietest(samples: NDArray[np.float32]) -> int:
    """Return the sample index in the middle of the quietest pause-long stretch."""
    frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME)
    energy = np.convolve((frames**2).mean(axis=1), np.ones(_PAUSE_FRAMES), mode="valid")
    return (int(energy.argmin()) + _PAUSE_FRAMES // 2) * _FRAME
