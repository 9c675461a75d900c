"""Adaptive audio context: kept where the model is sure, encoded again once where it is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from counting import Counting
from edgewhisper_runtime import Options, Transcriber, audio, load
from edgewhisper_runtime.audio.features import FRAMES_PER_SECOND, WINDOW_FRAMES
from edgewhisper_runtime.bundle import Adaptive
from edgewhisper_runtime.options import PLAIN

# Of whisper-tiny.en by onnx-int8 with a margin of 2 s:
UNSURE = "1998/15444/1998-15444-0007.flac"  # two words are lost, at a log-probability of -0.45
SAME = "2414/128291/2414-128291-0004.flac"  # unsure, and the full window's text is the same
LOOPING = "1998/15444/1998-15444-0008.flac"


@pytest.fixture(scope="module")
def full(onnx_bundle: Path) -> Transcriber:
    return load(onnx_bundle, threads=2, audio_context="full", wrap=Counting)


@pytest.fixture
def encoded(full: Transcriber) -> list[tuple[int, int]]:
    """The encoder's calls in this test."""
    counting = full.decoder.backend
    assert isinstance(counting, Counting)
    counting.encoded.clear()
    return counting.encoded


@pytest.fixture(scope="module")
def directory(data: Path) -> Path:
    return data / "LibriSpeech" / "test-other"


def adaptive(full: Transcriber, settings: Adaptive) -> Transcriber:
    """Return a transcriber in adaptive context over the same backend."""
    decoder = full.decoder
    changed = replace(decoder.settings, adaptive=settings)
    return Transcriber(decoder.backend, decoder.tokenizer, changed, adaptive=True)


def frames(path: Path, margin: float) -> int:
    """Return the frames of a clip and a margin in seconds, rounded up to an even number."""
    count = -(-len(audio.load(path)) // 160) + round(margin * FRAMES_PER_SECOND)
    return count + count % 2


def test_an_unsure_text_is_replaced_by_that_of_the_full_window(
    full: Transcriber, encoded: list[tuple[int, int]], directory: Path
) -> None:
    path = directory / UNSURE
    expected = full.transcribe(path, PLAIN)
    encoded.clear()
    unguarded = adaptive(full, Adaptive(2.0)).transcribe(path, PLAIN)
    assert unguarded.text != expected.text
    assert unguarded.windows[0].encoded_again is None
    assert encoded == [(1, frames(path, 2.0))]
    encoded.clear()
    guarded = adaptive(full, Adaptive(2.0, -0.4)).transcribe(path, PLAIN)
    assert guarded.text == expected.text
    assert guarded.windows[0].encoded_again == "unsure"
    assert guarded.windows[0].log_probability == pytest.approx(
        expected.windows[0].log_probability, abs=0.02
    )
    assert encoded == [(1, frames(path, 2.0)), (1, WINDOW_FRAMES)]


def test_the_full_window_is_decoded_along_the_first_text(
    full: Transcriber, encoded: list[tuple[int, int]], directory: Path
) -> None:
    """One call of the decoder verifies all of it that stays."""
    counting = full.decoder.backend
    assert isinstance(counting, Counting)

    def steps(transcriber: Transcriber) -> int:
        before = counting.steps
        transcriber.transcribe(directory / SAME, PLAIN)
        return counting.steps - before

    first, second = steps(adaptive(full, Adaptive(2.0))), steps(full)
    both = steps(adaptive(full, Adaptive(2.0, -0.4)))
    assert len(encoded) == 4
    assert first < both < first + second - 2


def test_a_sure_text_is_kept(
    full: Transcriber, encoded: list[tuple[int, int]], speech: list[Path]
) -> None:
    guarded = adaptive(full, Adaptive(2.0, -0.4)).transcribe(speech[1], PLAIN)
    assert guarded.windows[0].encoded_again is None
    assert guarded.windows[0].log_probability >= -0.4
    assert encoded == [(1, frames(speech[1], 2.0))]
    strictest = adaptive(full, Adaptive(2.0, 0.0)).transcribe(speech[1], PLAIN)
    assert strictest.windows[0].encoded_again == "unsure"


def test_a_repetition_is_told_from_an_unsure_text(
    full: Transcriber, encoded: list[tuple[int, int]], directory: Path
) -> None:
    path = directory / LOOPING
    again = adaptive(full, Adaptive(2.0, -0.4)).transcribe(path, PLAIN)
    assert again.windows[0].encoded_again == "looping"
    assert len(encoded) == 2
    assert again.text == full.transcribe(path, PLAIN).text


def test_no_window_is_encoded_more_than_twice(
    full: Transcriber, encoded: list[tuple[int, int]], directory: Path
) -> None:
    """Not even where every temperature fails, and the window is long: the second is the last."""
    options = Options(min_log_probability=0.0, temperatures=(0.0, 0.2, 0.4), best_of=1, vad="none")
    transcript = adaptive(full, Adaptive(2.0, -0.4)).transcribe(directory / UNSURE, options)
    assert transcript.windows[0].encoded_again == "unsure"
    assert encoded == [(1, frames(directory / UNSURE, 2.0)), (1, WINDOW_FRAMES)]
    encoded.clear()
    window = np.resize(audio.load(directory / UNSURE), 480_000)
    transcript = adaptive(full, Adaptive(2.0, 0.0)).transcribe(window, options)
    assert transcript.windows[0].encoded_again is None
    assert encoded == [(1, WINDOW_FRAMES)]


def test_long_recordings_are_encoded_again_window_by_window(
    full: Transcriber, encoded: list[tuple[int, int]], data: Path
) -> None:
    """Every window by itself, in batches too."""
    path = data / "longform" / "librivox_sonnet1.mp3"
    guarded = adaptive(full, Adaptive(2.0, -0.25))
    for options in (Options(), Options(timestamps=True), Options(batch_size=4)):
        encoded.clear()
        windows = guarded.transcribe(path, options).windows
        short = sum(count < WINDOW_FRAMES for _, count in encoded)
        again = sum(window.encoded_again is not None for window in windows)
        assert len(windows) > 1
        assert len(encoded) == len(windows) + again
        assert again <= short


def test_context_does_not_change_what_words_are_timed_by(
    full: Transcriber, directory: Path
) -> None:
    """Of a window that was encoded again the words' times are those of the full window."""
    options = replace(PLAIN, words=True)
    expected = full.transcribe(directory / UNSURE, options)
    guarded = adaptive(full, Adaptive(2.0, -0.4)).transcribe(directory / UNSURE, options)
    assert guarded.windows[0].encoded_again
    (again,), (once,) = guarded.segments, expected.segments
    assert (again.text, again.start, again.end) == (once.text, once.start, once.end)
    for word, same in zip(again.words, once.words, strict=True):
        assert replace(word, probability=0) == replace(same, probability=0)
        assert word.probability == pytest.approx(same.probability, abs=0.02)
