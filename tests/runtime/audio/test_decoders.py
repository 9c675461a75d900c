"""Decoding ends in order, whatever ends it."""

from __future__ import annotations

import linecache
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from edgewhisper_runtime import audio
from edgewhisper_runtime.audio import decoders

_WAIT_FOR_THREAD = threading.Event.wait.__code__  # while it starts: the longest of the moments


def _interrupted(path: Path, after: int) -> bool:
    """Decode, with Ctrl-C at one line of the main thread; return whether it came so far.

    A signal is never seen at a bare `try:`, and no handler covers that line.
    """
    lines = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        file = frame.f_code.co_filename
        ours = file == decoders.__file__ and "try:" not in linecache.getline(file, frame.f_lineno)
        if event == "line" and (ours or frame.f_code is _WAIT_FOR_THREAD):
            lines += 1
            if lines == after:
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        audio.load(path)
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_at_any_moment_leaves_no_noise(
    speech: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    before = threading.active_count()
    after = 1
    while _interrupted(speech[0], after):
        after += 1
    assert after > 20
    assert threading.active_count() == before
    assert capfd.readouterr().err == ""
