"""Where one window ends and the next begins, every word is written once, on real speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgewhisper_runtime import audio, load
from edgewhisper_runtime.options import Options
from edgewhisper_runtime.transcriber import Transcriber

TIMED = Options(timestamps=True)
RATE = audio.SAMPLE_RATE


@pytest.fixture(scope="module")
def quick(onnx_bundle: Path) -> Transcriber:
    return load(onnx_bundle, threads=2, audio_context="full")


@pytest.fixture(scope="module")
def chapter(data: Path) -> np.ndarray:
    return audio.load(data / "longform" / "librispeech_1089-134686_concat.flac")


@pytest.fixture(scope="module")
def saturdays(data: Path) -> list[np.ndarray]:
    """A sentence that ends with "Saturday", and one that begins with it."""
    speech = data / "LibriSpeech" / "test-clean"
    files = ("1089/134686/1089-134686-0028.flac", "260/123286/260-123286-0000.flac")
    return [audio.load(speech / file) for file in files]


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


@pytest.mark.parametrize(
    ("begin", "end", "text"),
    [
        (85.31, 116, "the dusk deepening in the school"),
        (56.41, 90, "his wing of boys through the responses her eyes"),
    ],
)
def test_no_words_are_lost_or_doubled_where_speech_goes_on(
    quick: Transcriber, chapter: np.ndarray, begin: float, end: float, text: str
) -> None:
    transcript = quick.transcribe(chapter[round(begin * RATE) : round(end * RATE)], TIMED)
    assert len(transcript.windows) > 1
    assert text in letters(transcript.text)


@pytest.mark.parametrize("before", [19.5, 20.5, 21.2])
def test_a_word_said_on_both_sides_of_a_seam_is_kept_twice(
    quick: Transcriber, chapter: np.ndarray, saturdays: list[np.ndarray], before: float
) -> None:
    first, second = saturdays
    start = chapter[: round(before * RATE)]
    samples = np.concatenate([start, silence(0.3), first, silence(0.5), second])
    transcript = quick.transcribe(samples, TIMED)
    assert len(transcript.windows) > 1
    assert "feast day is saturday saturday august" in letters(transcript.text)


def test_a_clip_may_begin_with_the_word_that_the_last_one_ends_with(
    quick: Transcriber, saturdays: list[np.ndarray]
) -> None:
    first, second = saturdays
    seam = len(first) / RATE
    for batch_size in (None, 2):
        options = Options(timestamps=True, batch_size=batch_size, clip_timestamps=(0, seam, seam))
        transcript = quick.transcribe(np.concatenate([first, second]), options)
        assert "feast day is saturday saturday august" in letters(transcript.text)


def test_clips_have_no_word_in_common(quick: Transcriber, smoke_clip: Path) -> None:
    """Each is "the table and soup on the": speech goes on at its end."""
    spoken = audio.load(smoke_clip)[round(1.48 * RATE) :][: round(1.22 * RATE)]
    samples = np.concatenate([spoken, silence(5), spoken])
    options = Options(timestamps=True, clip_timestamps=(0, 1.22, 6.22, 7.44))
    first, second = quick.transcribe(samples, options).segments
    assert first.text == second.text
    assert letters(first.text).startswith("the table")


def test_a_sentence_after_a_pause_is_not_lost_in_a_batch(quick: Transcriber, data: Path) -> None:
    """The timestamps of the window's text end in the pause; times are those of the recording."""
    first, second = (
        audio.load(data / "LibriSpeech" / file)
        for file in (
            "test-clean/5639/40744/5639-40744-0020.flac",
            "dev-clean/3081/166546/3081-166546-0016.flac",
        )
    )
    samples = np.concatenate([first, silence(1), second])
    one_by_one, batch = (
        quick.transcribe(samples, Options(words=True, batch_size=size)) for size in (None, 4)
    )
    assert batch.text.endswith("importance of being thorough.")
    assert batch.text == one_by_one.text
    assert batch.segments == one_by_one.segments
    assert batch.windows[1].start == pytest.approx(batch.windows[0].end, abs=0.5)


@pytest.mark.parametrize("batch_size", [None, 1])
def test_silence_after_a_text_is_not_decoded_again(
    quick: Transcriber, smoke_clip: Path, batch_size: int | None
) -> None:
    """Silence alone, and after speech that is less than a twentieth of the window."""
    options = Options(timestamps=True, vad="none", batch_size=batch_size)
    word = audio.load(smoke_clip)[:RATE]
    for samples in (silence(14), np.concatenate([silence(2), word, silence(25)])):
        assert len(quick.transcribe(samples, options).windows) == 1


def letters(text: str) -> str:
    return " ".join("".join(c for c in text.lower() if c.isalpha() or c == " ").split())
