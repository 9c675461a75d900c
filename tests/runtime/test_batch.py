"""Several recordings in one step loop: of different lengths, options and ends."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import BundleOf
from counting import Counting
from edgewhisper_runtime import Options, audio, load
from edgewhisper_runtime.batch import Batch
from edgewhisper_runtime.errors import AudioError
from edgewhisper_runtime.transcriber import Transcriber
from edgewhisper_runtime.transcript import Transcript

OPTIONS = [Options(), Options(timestamps=True), Options(beam_size=3), Options(prompt="Well,")]


@pytest.fixture(scope="module")
def transcriber(bundle_of: BundleOf) -> Transcriber:
    """In adaptive context, where every window has a length of its own."""
    return load(bundle_of("whisper-tiny.en", "fp32"), threads=2, audio_context="adaptive")


@pytest.fixture(scope="module")
def clips(speech: list[Path]) -> list[np.ndarray]:
    return [audio.load(path) for path in speech[:4]]


@pytest.fixture(scope="module")
def two_sentences(data: Path) -> np.ndarray:
    """A window whose text ends with the first of them, 4 s before the sound does."""
    speech = data / "LibriSpeech"
    first, second = (
        audio.load(speech / file)
        for file in (
            "test-clean/5639/40744/5639-40744-0020.flac",
            "dev-clean/3081/166546/3081-166546-0016.flac",
        )
    )
    return np.concatenate([first, np.zeros(audio.SAMPLE_RATE, np.float32), second])


def text(result: Transcript | Exception) -> str:
    assert isinstance(result, Transcript)
    return result.text


def test_recordings_of_any_length_and_options_have_the_texts_they_have_alone(
    transcriber: Transcriber, clips: list[np.ndarray]
) -> None:
    """One joins while the others are in the middle, one is removed, and one cannot be read."""
    batch = Batch(transcriber.decoder.backend, 8)
    recordings = [
        transcriber.open(clip, options) for clip, options in zip(clips, OPTIONS, strict=True)
    ]
    for recording in recordings[:3]:
        batch.add(recording)
    removed, unusable = transcriber.open(clips[0]), transcriber.open(np.full(16_000, np.nan))
    batch.add(removed)
    batch.add(unusable)
    for _ in range(4):
        batch.step()
    batch.remove(removed)
    batch.add(recordings[3])
    while not all(recording.done for recording in recordings):
        batch.step()
    assert not removed.done
    assert isinstance(unusable.result(), AudioError)
    alone = [
        transcriber.transcribe(clip, options).text
        for clip, options in zip(clips, OPTIONS, strict=True)
    ]
    assert [text(recording.result()) for recording in recordings] == alone


@pytest.mark.parametrize("options", [{}, {"beam_size": 3}, {"temperatures": (0.4,), "best_of": 2}])
def test_a_batch_size_changes_no_text(
    transcriber: Transcriber, clips: list[np.ndarray], options: dict
) -> None:
    one_by_one = transcriber.transcribe_many(clips, Options(**options))
    together = transcriber.transcribe_many(clips, Options(batch_size=3, **options))
    assert list(map(text, together)) == list(map(text, one_by_one))


def test_windows_with_languages_of_their_own_are_decoded_at_once(
    bundle_of: BundleOf, data: Path
) -> None:
    """No window waits for another: the texts are the same, in fewer steps."""
    transcriber = load(bundle_of("whisper-base", "onnx-int8"), threads=2, wrap=Counting)
    counting = transcriber.decoder.backend
    assert isinstance(counting, Counting)
    files = [data / "multilingual" / of / f"fleurs-{of}-000.ogg" for of in ("de", "fr", "es")]
    parts = list(map(audio.load, files))
    ends = np.cumsum([len(part) for part in parts]) / audio.SAMPLE_RATE
    clips = (0.0, ends[0], ends[0], ends[1], ends[1])  # one window each
    results, steps = [], []
    for batch_size in (None, 3):
        before = counting.steps
        options = Options(multilingual=True, clip_timestamps=clips, batch_size=batch_size)
        results.append(transcriber.transcribe(np.concatenate(parts), options))
        steps.append(counting.steps - before)
    assert [segment.language for segment in results[1].segments] == ["de", "fr", "es"]
    assert results[1].text == results[0].text
    assert steps[1] < 0.7 * steps[0]


class _TimesOnce(Counting):
    """A backend that gives the times of one text, and fails where it is asked for more."""

    asked = 0

    def attention(
        self, tokens: np.ndarray, encoded: Any, row: int, heads: Sequence[tuple[int, int]]
    ) -> np.ndarray:
        self.asked += 1
        if self.asked > 1:
            raise MemoryError("no room for the times")
        return super().attention(tokens, encoded, row, heads)


def test_the_first_error_of_a_recording_ends_all_its_windows(
    onnx_bundle: Path, clips: list[np.ndarray], two_sentences: np.ndarray
) -> None:
    """The second window fails; the fourth ends in the same step, and the third is not at its end.

    When the first ends, the fourth takes its place in the batch, after which the second is next.
    """
    transcriber = load(onnx_bundle, threads=2, audio_context="full", wrap=_TimesOnce)
    backend = transcriber.decoder.backend
    assert isinstance(backend, _TimesOnce)
    shortest, *_, longest = sorted(clips, key=len)
    parts = [shortest, two_sentences, longest, two_sentences]
    ends = np.cumsum([len(part) for part in parts]) / audio.SAMPLE_RATE
    times = np.repeat([0, *ends], 2)[1:-1].tolist()
    options = Options(words=True, batch_size=4, clip_timestamps=tuple(times))
    recording = transcriber.open(np.concatenate(parts), options)
    batch = Batch(backend, 4)
    batch.add(recording)
    while not recording.done:
        batch.step()
    assert isinstance(recording.result(), MemoryError)
    steps = backend.steps
    batch.step()
    assert backend.steps == steps


def test_an_encoding_is_not_kept_for_what_follows_an_early_end(
    onnx_bundle: Path, two_sentences: np.ndarray
) -> None:
    encodings: list[weakref.ref[np.ndarray]] = []
    kept = []

    class Watched(Counting):
        def encode(self, features: np.ndarray) -> Any:
            kept.append(sum(encoding() is not None for encoding in encodings))
            encoded = super().encode(features)
            encodings.append(weakref.ref(encoded["cross_key_0"]))
            return encoded

    transcriber = load(onnx_bundle, threads=2, audio_context="full", wrap=Watched)
    transcript = transcriber.transcribe(two_sentences, Options(timestamps=True, batch_size=1))
    assert len(transcript.windows) > 1
    assert kept == [0] * len(transcript.windows)
