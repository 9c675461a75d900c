"""Audio of any length as windows that the encoder can take, cut where it is quiet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from edgewhisper_runtime.audio import SAMPLE_RATE
from edgewhisper_runtime.features import WINDOW_SECONDS

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WINDOW = WINDOW_SECONDS * SAMPLE_RATE
_EARLIEST_CUT = 20 * SAMPLE_RATE
_FRAME = SAMPLE_RATE // 100
_PAUSE_FRAMES = 20


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


def _quietest(samples: NDArray[np.float32]) -> int:
    """Return the sample index in the middle of the quietest pause-long stretch."""
    frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME)
    energy = np.convolve((frames**2).mean(axis=1), np.ones(_PAUSE_FRAMES), mode="valid")
    return (int(energy.argmin()) + _PAUSE_FRAMES // 2) * _FRAME
