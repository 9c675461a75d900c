"""Speech transcribed while it comes, on real recordings."""

from __future__ import annotations

from pathlib import Path

import jiwer
import numpy as np
import pytest

from conftest import BundleOf
from counting import Counting
from edgewhisper_runtime import audio, live, load
from edgewhisper_runtime.audio import vad
from edgewhisper_runtime.errors import AudioError, EdgeWhisperError
from edgewhisper_runtime.live import Live, Update
from edgewhisper_runtime.options import Options
from edgewhisper_runtime.transcriber import Transcriber

DEFAULT = Options()


@pytest.fixture(scope="module")
def transcriber(bundle_of: BundleOf) -> Transcriber:
    directory = bundle_of("whisper-tiny.en", "onnx-int8")
    return load(directory, threads=2, audio_context="adaptive", wrap=Counting)


@pytest.fixture(scope="module")
def speech_and_pauses(data: Path) -> tuple[np.ndarray, str]:
    """Two recordings with silence before, between and after, and what is said in them."""
    files = [data / "longform" / f"librivox_sense_{number}.wav" for number in ("0870", "0890")]
    pause = np.zeros(2 * audio.SAMPLE_RATE, np.float32)
    parts = [pause, audio.load(files[0]), pause, audio.load(files[1]), pause]
    return np.concatenate(parts), " ".join(file.with_suffix(".txt").read_text() for file in files)


def hear(
    transcriber: Transcriber, samples: np.ndarray, block: int, options: Options = DEFAULT
) -> list[Update]:
    live = Live(transcriber, options)
    updates = [
        update
        for start in range(0, len(samples), block)
        for update in live.feed(samples[start : start + block])
    ]
    return [*updates, *live.finish()]


def everything(updates: list[Update]) -> str:
    return words("".join(update.final for update in updates))


def words(text: str) -> str:
    return " ".join("".join(c for c in text.lower() if c.isalnum() or c == " ").split())


def test_what_is_final_is_what_was_said(
    transcriber: Transcriber, speech_and_pauses: tuple[np.ndarray, str]
) -> None:
    samples, said = speech_and_pauses
    updates = hear(transcriber, samples, 1600)
    assert jiwer.wer(words(said), everything(updates)) < 0.2
    assert sum(update.ended for update in updates) == 2
    assert updates[-1].ended
    assert not updates[-1].partial
    heard = [update.seconds for update in updates]
    assert heard == sorted(heard)
    assert 2 < heard[0]
    assert any(update.final and not update.ended for update in updates), "nothing final midway"


def test_partial_text_comes_before_it_is_final(
    transcriber: Transcriber, speech_and_pauses: tuple[np.ndarray, str]
) -> None:
    """Every look shows all of the utterance so far: what is final, then what is not yet."""
    samples, _ = speech_and_pauses
    final = ""
    shown = []
    for update in hear(transcriber, samples[: 9 * audio.SAMPLE_RATE], 8000):
        final += update.final
        shown.append(words(final + update.partial))
        if update.ended:
            break
    assert all(shown)
    assert len(shown) > 4
    lengths = [len(text.split()) for text in shown]
    assert lengths[-1] > lengths[0]
    ending = words(final).split()
    early = [text.split()[:2] for text in shown[2:]]
    assert all(start == ending[:2] for start in early)


def test_every_look_begins_with_the_last_text(
    transcriber: Transcriber, speech_and_pauses: tuple[np.ndarray, str]
) -> None:
    """The texts are those of looks that begin with nothing, and take fewer steps."""
    samples, _ = speech_and_pauses
    decoder = transcriber.decoder
    counting = decoder.backend
    assert isinstance(counting, Counting)
    request = decoder.request(Options(temperatures=(0.0,)), timestamps=False)
    before: list[int] = []
    steps = {"alone": 0, "drafted": 0}
    for seconds in range(4, 14):
        window = samples[2 * audio.SAMPLE_RATE : seconds * audio.SAMPLE_RATE]
        start = counting.steps
        alone = decoder.decode(window, request)
        middle = counting.steps
        drafted = decoder.decode(window, request, before)
        steps["alone"] += middle - start
        steps["drafted"] += counting.steps - middle
        assert drafted.tokens == alone.tokens
        before = drafted.tokens
    assert steps["drafted"] < 0.6 * steps["alone"]


def test_silence_says_nothing(transcriber: Transcriber) -> None:
    assert hear(transcriber, np.zeros(5 * audio.SAMPLE_RATE, np.float32), 4000) == []


def test_who_is_late_looks_less_often(
    transcriber: Transcriber, speech_and_pauses: tuple[np.ndarray, str]
) -> None:
    """Utterances end where they would have ended, and nothing is lost."""
    samples, said = speech_and_pauses
    in_time = hear(transcriber, samples, 1600)
    late = hear(transcriber, samples, len(samples))
    assert [one.seconds for one in late] == [one.seconds for one in in_time if one.ended]
    assert jiwer.wer(words(said), everything(late)) < 0.2


def test_speech_without_a_pause_is_cut_between_words(transcriber: Transcriber, data: Path) -> None:
    """Every pause is taken out of a minute of speech: all there is to cut it by are its words."""
    path = data / "longform" / "librispeech_1089-134686_concat.flac"
    samples = audio.load(path)
    likely = vad.load_detector().feed(samples)
    frames = samples[: len(likely) * vad.FRAME].reshape(-1, vad.FRAME)
    spoken = frames[likely >= 0.6].ravel()[: 60 * audio.SAMPLE_RATE]
    updates = hear(transcriber, spoken, len(spoken), Options(timestamps=False))
    ends = [update.seconds for update in updates if update.ended]
    assert len(ends) == 3
    assert max(np.diff([0, *ends])) <= 28
    final = everything(updates).split()
    said = words(path.with_suffix(".txt").read_text()).split()[: len(final)]
    assert jiwer.wer(" ".join(said), " ".join(final)) < 0.25


def test_a_text_that_fills_its_window_is_cut_between_words(
    transcriber: Transcriber, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Languages of many tokens a second get there; English does with a reserve this large."""
    monkeypatch.setattr(live, "_RESERVE", transcriber.decoder.max_text_tokens - 20)
    path = data / "longform" / "librispeech_1089-134686_concat.flac"
    samples = audio.load(path)[: 40 * audio.SAMPLE_RATE]
    updates = hear(transcriber, samples, audio.SAMPLE_RATE)
    assert sum(update.ended for update in updates) >= 5
    final = everything(updates).split()
    said = words(path.with_suffix(".txt").read_text()).split()[: len(final)]
    assert jiwer.wer(" ".join(said), " ".join(final)) < 0.25


def test_options(transcriber: Transcriber, speech_and_pauses: tuple[np.ndarray, str]) -> None:
    samples, said = speech_and_pauses
    options = Options(hotwords=("Dashwoode",), condition_on_previous_text=True)
    updates = hear(transcriber, samples, len(samples), options)
    assert jiwer.wer(words(said), everything(updates)) < 0.2
    assert "Dashwoode" in updates[0].final


def test_options_about_times_have_no_effect(
    transcriber: Transcriber, speech_and_pauses: tuple[np.ndarray, str]
) -> None:
    samples, _ = speech_and_pauses
    timed = Options(timestamps=True, words=True, hallucination_silence_threshold=0.5)
    assert hear(transcriber, samples, 16_000, timed) == hear(transcriber, samples, 16_000)


def test_every_utterance_has_its_own_language(bundle_of: BundleOf, data: Path) -> None:
    base = load(bundle_of("whisper-base", "onnx-int8"), threads=2, audio_context="adaptive")
    clips = [data / "multilingual" / of / f"fleurs-{of}-000.ogg" for of in ("de", "fr")]
    pause = np.zeros(2 * audio.SAMPLE_RATE, np.float32)
    samples = np.concatenate([part for clip in clips for part in (audio.load(clip), pause)])
    updates = hear(base, samples, len(samples), Options(multilingual=True))
    assert [update.ended for update in updates] == [True, True]
    for clip, update in zip(clips, updates, strict=True):
        said = clip.with_suffix(".txt").read_text()
        assert jiwer.wer(words(said), words(update.final)) < 0.4


def test_what_it_cannot_take(transcriber: Transcriber) -> None:
    with pytest.raises(EdgeWhisperError, match="only transcribes English"):
        Live(transcriber, Options(language="de"))
    with pytest.raises(AudioError, match="NaN"):
        list(Live(transcriber).feed(np.full(1600, np.nan, np.float32)))
