"""Sound that comes while something else is done."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest

from edgewhisper_runtime.audio import capture
from edgewhisper_runtime.audio.capture import Capture
from edgewhisper_runtime.errors import AudioError, MissingLibraryError

BLOCK = 1600


class Source:
    """Blocks of samples that count on from 0, so that a lost one shows."""

    def __init__(self, count: int, pause: float = 0.0, error: Exception | None = None) -> None:
        self.count, self.pause, self.error = count, pause, error
        self.given = 0

    def blocks(self) -> Iterator[bytes]:
        for number in range(self.count):
            time.sleep(self.pause)
            self.given += 1
            yield np.full(BLOCK, number, dtype="<i2").tobytes()
        if self.error:
            raise self.error


def numbers(blocks: list[np.ndarray]) -> list[int]:
    """Return the blocks' numbers."""
    samples = np.concatenate(blocks)
    assert samples.dtype == np.float32
    assert len(samples) % BLOCK == 0
    return (samples[::BLOCK] * 32768).astype(int).tolist()


def test_who_comes_back_late_gets_all_that_came_meanwhile() -> None:
    source = Source(50, pause=0.002)
    taken = []
    with Capture("test", source.blocks()) as captured:
        for samples in captured:
            taken.append(samples)
            time.sleep(0.01)
    assert numbers(taken) == list(range(50))
    assert len(taken) < 40
    assert captured.error is None


def test_what_waits_is_bounded() -> None:
    source = Source(2000)
    with Capture("test", source.blocks()) as captured:
        before = -1
        while source.given != before:
            before = source.given
            time.sleep(0.2)
        assert 600 <= source.given <= 601, "a minute"
        assert numbers(list(captured)) == list(range(2000))


def test_leaving_early_ends_the_thread() -> None:
    source = Source(2000)
    with Capture("test", source.blocks()) as captured:
        next(iter(captured))
    given = source.given
    time.sleep(0.1)
    assert source.given == given < 2000


def test_a_signal_ends_it_with_what_waits() -> None:
    source = Source(10**6, pause=0.002)
    taken = []
    with Capture("test", source.blocks()) as captured:
        before = signal.signal(signal.SIGALRM, lambda *_: captured.stop())
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        try:
            taken = list(captured)
        finally:
            signal.signal(signal.SIGALRM, before)
    found = numbers(taken)
    assert found == list(range(len(found)))
    assert 1 < len(found) <= source.given < 10**6


def test_what_came_before_an_error_is_not_lost() -> None:
    broken = AudioError("the microphone stopped")
    with Capture("test", Source(3, error=broken).blocks()) as captured:
        assert numbers(list(captured)) == [0, 1, 2]
        assert captured.error is broken


def test_a_microphone_needs_sounddevice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MissingLibraryError, match=r"pip install 'edgewhisper-runtime\[mic\]'"):
        capture.microphone()
