"""Audio of any length as windows of at most 30 s: cut where it is quiet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from edgewhisper_runtime.audio import SAMPLE_RATE
from edgewhisper_runtime.audio.features import WINDOW_SECONDS
from edgewhisper_runtime.errors import AudioError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WINDOW = WINDOW_SECONDS * SAMPLE_RATE
_EARLIEST_CUT = 20 * SAMPLE_RATE
_FRAME = SAMPLE_RATE // 100
_PAUSE_FRAMES = 20
_PAUSE = 1 / 300  # of the power of loud moments, as is the next
_QUIET, _LONG_FRAMES = 1e-3, 30
_WORD_FRAMES = 10  # as many are loud in the shortest word; a click has fewer
_SILENCE = 1e-10  # power where full scale is 1: about that of rounding to 16 bits
_INEXACT = 2 * SAMPLE_RATE // 5  # how far from a pause its timestamp may be


def windows(blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """Regroup blocks of samples [n] at 16 kHz into windows of at most 30 s, in constant memory.

    Audio of up to 30 s is one window. Longer audio is cut in the middle of the quietest 0.2 s
    between second 20 and second 30 of each window. The windows, joined, are the audio.
    """
    buffer = np.zeros(0, dtype=np.float32)
    for block in blocks:
        buffer = np.concatenate([buffer, block])
        while len(buffer) > _WINDOW:
            frame, _ = _quietest(_power(buffer[_EARLIEST_CUT:_WINDOW]))
            cut = _EARLIEST_CUT + frame * _FRAME
            yield buffer[:cut]
            buffer = buffer[cut:]
    if len(buffer):
        yield buffer


def clips(
    blocks: Iterable[NDArray[np.float32]],
    intervals: Iterable[tuple[float, float]],
    label: str = "the audio",
) -> Iterator[tuple[int, Iterator[NDArray[np.float32]]]]:
    """Yield the first sample and the blocks of each interval, in seconds, of a stream at 16 kHz.

    Intervals are in order and do not overlap. Each clip is read before the next one is asked for;
    what is after the last is not read. Reading a clip that begins after the end of the stream
    raises AudioError.
    """
    stream = iter(blocks)
    at, held = 0, np.zeros(0, dtype=np.float32)

    def clip(first: int, last: float) -> Iterator[NDArray[np.float32]]:
        nonlocal at, held
        while at < last:
            if not len(held):
                if (block := next(stream, None)) is None:
                    if at > first:
                        return
                    raise AudioError(
                        f"{label} is {at / SAMPLE_RATE:g} s long: the clip at "
                        f"{first / SAMPLE_RATE:g} s is after its end. Leave it out of "
                        "clip_timestamps."
                    )
                held = block
            taken = int(min(len(held), (first if at < first else last) - at))
            part, held, start = held[:taken], held[taken:], at
            at += taken
            if start >= first:
                yield part

    for start, end in intervals:
        first = round(start * SAMPLE_RATE)
        yield first, clip(first, end if math.isinf(end) else round(end * SAMPLE_RATE))


class Reader:
    """Reads windows from a stream of blocks, each from a start that the caller gives.

    It holds only the samples after the start of the last window.
    """

    def __init__(self, blocks: Iterable[NDArray[np.float32]]) -> None:
        self._blocks = iter(blocks)
        self._buffer = np.zeros(0, dtype=np.float32)
        self._start = 0

    def window(self, start: int) -> NDArray[np.float32]:
        """Return up to 30 s of samples [n] from sample `start` on; none at the end of the stream.

        `start` must not be smaller than in the last call: earlier samples are gone.
        """
        self._buffer, self._start = self._buffer[start - self._start :], start
        while len(self._buffer) < _WINDOW and (block := next(self._blocks, None)) is not None:
            self._buffer = np.concatenate([self._buffer, block])
        return self._buffer[:_WINDOW]


def pause_near(samples: NDArray[np.float32], at: int) -> int:
    """Return where to cut a window at sample `at`, or in a pause near it.

    Timestamps are not exact: a cut exactly at one would lose a word there, or repeat it. So the cut
    is in the middle of the quietest 0.2 s within 0.4 s, where that has less than a 300th of the
    power of the window's loud moments. Where speech goes on it is at `at`: any other place would be
    within a word, or leave one out.
    """
    if at >= len(samples):
        return len(samples)
    power = _power(samples)
    first = max(at - _INEXACT, 0) // _FRAME
    frame, level = _quietest(power[first : (at + _INEXACT) // _FRAME])
    if level > _quiet(power, _PAUSE):
        return max(at, _PAUSE_FRAMES // 2 * _FRAME)
    return (first + frame) * _FRAME


def pauses(samples: NDArray[np.float32]) -> list[tuple[float, float]]:
    """Return when a window's samples [n] are quiet for 0.3 s or more: starts and ends in seconds.

    Quiet is less than a thousandth of the power of its loud moments.
    """
    power = _power(samples)
    if not len(power):
        return []
    quiet = power <= _quiet(power, _QUIET)
    edges = np.flatnonzero(np.diff(quiet, prepend=False, append=False)).reshape(-1, 2)
    long = edges[edges[:, 1] - edges[:, 0] >= _LONG_FRAMES]
    return [(start * _FRAME / SAMPLE_RATE, end * _FRAME / SAMPLE_RATE) for start, end in long]


def _power(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the power of frames of 10 ms of samples [n], without an incomplete one at the end."""
    frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME)
    power: NDArray[np.float32] = (frames**2).mean(axis=1)
    return power


def _quiet(power: NDArray[np.float32], share: float) -> float:
    """Return the power up to which a window is quiet: a share of that of its loud moments.

    That is the 95th percentile of frames, or a tenth of a word's power where the window holds
    little more than a word. Digital silence is quiet in any case.
    """
    word = np.sort(power)[-_WORD_FRAMES:][0]
    loud = max(float(np.percentile(power, 95)), float(word) / 10)
    return max(share * loud, _SILENCE)


def _quietest(power: NDArray[np.float32]) -> tuple[int, float]:
    """Return the frame in the middle of the quietest 0.2 s of frames' power [n], and the mean."""
    energy = np.convolve(power, np.ones(_PAUSE_FRAMES), mode="valid")
    quietest = int(energy.argmin())
    return quietest + _PAUSE_FRAMES // 2, float(energy[quietest]) / _PAUSE_FRAMES
