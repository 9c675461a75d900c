"""Transcription of real speech through the public interface."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import jiwer
import numpy as np
import pytest

from conftest import BundleOf
from edgewhisper_runtime import audio, load
from edgewhisper_runtime.errors import AudioError, EdgeWhisperError
from edgewhisper_runtime.options import PLAIN, Options, Padding, VoiceDetector
from edgewhisper_runtime.transcriber import Transcriber
from edgewhisper_runtime.transcript import Segment, Transcript


@pytest.fixture(scope="module")
def tiny(bundle_of: BundleOf) -> Transcriber:
    return load(bundle_of("whisper-tiny.en", "fp32", "none"))


@pytest.fixture(scope="module")
def lean(bundle_of: BundleOf) -> Transcriber:
    return load(bundle_of("whisper-tiny.en", "fp32"), threads=2, audio_context="full")


@pytest.fixture(scope="module")
def multilingual(bundle_of: BundleOf) -> Transcriber:
    return load(bundle_of("whisper-base", "fp32", "none"))


@pytest.fixture(scope="module")
def quantized(bundle_of: BundleOf) -> Transcriber:
    return load(bundle_of("whisper-base", "onnx-int8"), threads=2, audio_context="full")


@pytest.mark.parametrize("options", [Options(), Options(timestamps=True)])
def test_long_audio_is_as_good_as_its_utterances(
    lean: Transcriber, data: Path, options: Options
) -> None:
    """Nothing is lost or said twice where a window ends."""
    path = data / "longform" / "librispeech_1089-134686_concat.flac"
    transcript = lean.transcribe(path, options)
    assert transcript.duration == pytest.approx(276, abs=1)
    assert len(transcript.windows) > 5
    assert (len(transcript.segments) > 30) is options.timed
    times = [time for segment in transcript.segments for time in (segment.start, segment.end)]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] <= transcript.duration
    chapter = data / "LibriSpeech" / "test-clean" / "1089" / "134686"
    texts = [lean.transcribe(file, options).text for file in sorted(chapter.glob("*.flac"))]
    reference = path.with_suffix(".txt").read_text()
    alone = error_rate(reference, " ".join(texts))
    assert error_rate(reference, transcript.text) <= alone + 0.005


def error_rate(reference: str, text: str) -> float:
    """Return the share of wrong words, case and punctuation left out."""
    words = (" ".join(re.findall(r"[a-z']+", spoken.lower())) for spoken in (reference, text))
    return jiwer.wer(*words)


def test_segments_come_as_they_are_decoded(lean: Transcriber, data: Path) -> None:
    path = data / "longform" / "librivox_sonnet1.mp3"
    heard: list[Segment] = []
    timed = Options(timestamps=True)
    transcript = lean.transcribe(path, options=timed, on_segment=heard.append)
    assert len(heard) > len(transcript.windows)
    assert heard == transcript.segments
    assert transcript.text == "".join(segment.text for segment in heard).strip()


def test_many_recordings_in_batches_and_one_that_cannot_be_read(
    lean: Transcriber, data: Path, tmp_path: Path
) -> None:
    """In order, each with the text that it has alone."""
    absent = tmp_path / "absent.wav"
    files = sorted((data / "longform").glob("*.wav"))
    long = data / "longform" / "librivox_sonnet1.mp3"
    options = Options(batch_size=4)
    found = list(lean.transcribe_many([files[0], absent, long, *files[1:]], options=options))
    assert isinstance(found.pop(1), AudioError)
    alone = [lean.transcribe(file, options=options) for file in (files[0], long, *files[1:])]
    assert [one.text for one in found] == [one.text for one in alone]
    assert [one.duration for one in found] == [one.duration for one in alone]
    assert len(found[1].windows) == 2
    timed = Options(timestamps=True)
    one_by_one = list(lean.transcribe_many([files[0], absent, files[1]], options=timed))
    assert [isinstance(one, AudioError) for one in one_by_one] == [False, True, False]
    with pytest.raises(AudioError, match="does not exist"):
        lean.transcribe(absent, options=options)


def test_text_is_built_upon_only_where_asked(lean: Transcriber, data: Path) -> None:
    path = data / "longform" / "librivox_sonnet2.mp3"
    plain = lean.transcribe(path)
    built = lean.transcribe(path, options=Options(condition_on_previous_text=True))
    assert built.windows[0].tokens == plain.windows[0].tokens
    assert built.windows[1].tokens != plain.windows[1].tokens


def test_text_that_is_left_out_is_not_built_upon(
    onnx_bundle: Path, data: Path, speech: list[Path]
) -> None:
    """Of 3 s of clattering dishes the model writes "Thank you."; speech follows as a clip."""
    dishes = audio.load(data / "noise" / "doing_the_dishes.wav")[20 * audio.SAMPLE_RATE :]
    dishes = dishes[: 3 * audio.SAMPLE_RATE]
    samples = np.concatenate([dishes, audio.load(speech[0])])
    left_out = Options(
        words=True, clip_timestamps=(0, 3, 3), hallucination_silence_threshold=1.0,
        vad="none", temperatures=(0.0,), max_no_speech=None,
    )  # fmt: skip
    kept = replace(left_out, hallucination_silence_threshold=None)
    transcriber = load(onnx_bundle, threads=2, audio_context="full")
    assert transcriber.transcribe(samples, kept).text.startswith("Thank you.")
    plain, built = (
        transcriber.transcribe(samples, replace(left_out, condition_on_previous_text=condition))
        for condition in (False, True)
    )
    assert "Thank you" not in plain.text
    assert built == plain


def test_samples_and_files_give_the_same_text(tiny: Transcriber, speech: list[Path]) -> None:
    from_file = tiny.transcribe(speech[0])
    from_samples = tiny.transcribe(audio.load(speech[0]))
    assert from_file == from_samples
    assert from_file.text
    assert from_file.problem is None


@pytest.mark.parametrize("padding", ["silence", "zeros"])
@pytest.mark.parametrize(("model", "ours"), [("tiny_en", "tiny"), ("base", "multilingual")])
def test_the_text_is_that_of_transformers_generate(
    model: str, ours: str, padding: Padding, speech: list[Path], request: pytest.FixtureRequest
) -> None:
    import torch
    from transformers import (
        GenerationConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperTokenizerFast,
    )

    checkpoint, transcriber = request.getfixturevalue(model), request.getfixturevalue(ours)
    reference = WhisperForConditionalGeneration.from_pretrained(
        checkpoint.path, dtype=torch.float32
    )
    reference.generation_config = GenerationConfig.from_pretrained(checkpoint.path)
    tokenizer = WhisperTokenizerFast.from_pretrained(checkpoint.path)
    named = {"language": "en", "task": "transcribe"} if model == "base" else {}
    for path in speech:
        samples = audio.load(path)
        inputs = WhisperFeatureExtractor()(
            samples, sampling_rate=audio.SAMPLE_RATE, return_tensors="pt"
        ).input_features
        if padding == "zeros":
            inputs[..., len(samples) // 160 :] = 0
        (tokens,) = reference.generate(inputs, num_beams=1, do_sample=False, **named)
        expected = tokenizer.decode(tokens, skip_special_tokens=True).strip()
        found = transcriber.transcribe(path, replace(PLAIN, language="en", padding=padding))
        assert found.text == expected


def test_options_that_mean_nothing_are_refused() -> None:
    with pytest.raises(EdgeWhisperError, match="one of silence, zeros, not 'noise'"):
        Options(padding="noise")  # type: ignore[arg-type]
    with pytest.raises(EdgeWhisperError, match="vad must be one of auto, silero, energy, none"):
        Options(vad="loud")  # type: ignore[arg-type]
    assert (Options(vad=True).vad, Options(vad=False).vad) == ("auto", "none")  # type: ignore[arg-type]
    with pytest.raises(EdgeWhisperError, match="at least 0"):
        Options(seed=-1)
    with pytest.raises(EdgeWhisperError, match="at least 1"):
        Options(beam_size=0)
    with pytest.raises(EdgeWhisperError, match="cannot build on each other"):
        Options(batch_size=2, condition_on_previous_text=True)
    with pytest.raises(EdgeWhisperError, match="from 0 to 1"):
        Options(temperatures=(1.5,))


@pytest.mark.parametrize("language", ["de", "en", "es", "fr", "zh"])
def test_the_language_is_detected(multilingual: Transcriber, data: Path, language: str) -> None:
    suffixes = {".opus", ".wav", ".ogg"}
    files = [
        p for p in sorted((data / "multilingual" / language).iterdir()) if p.suffix in suffixes
    ]
    transcript = multilingual.transcribe(files[0])
    assert transcript.language == language
    reference, text = files[0].with_suffix(".txt").read_text(), transcript.text
    if language == "zh":  # written without spaces, and in either of two scripts
        reference, text = reference.replace(" ", ""), text.replace(" ", "")
    assert jiwer.cer(reference.strip().lower(), text.lower()) < 0.4


def test_a_language_is_detected_without_encoding_twice(
    multilingual: Transcriber, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a batch too, where each recording has its own language, and in a long recording.

    Windows are encoded one by one.
    """
    backend, batches = multilingual.decoder.backend, []
    encode = backend.encode

    def counted(mels: np.ndarray) -> object:
        batches.append(len(mels))
        return encode(mels)

    monkeypatch.setattr(backend, "encode", counted)
    german, french = (
        min(p for p in (data / "multilingual" / name).iterdir() if p.suffix != ".txt")
        for name in ("de", "fr")
    )
    detected = multilingual.transcribe(german, PLAIN)
    assert batches == [1]
    named = multilingual.transcribe(german, replace(PLAIN, language="de"))
    assert batches == [1, 1]
    assert detected.text == named.text
    assert detected.language == "de"
    assert detected.language_probability is not None
    assert named.language_probability is None
    batches.clear()
    both = list(multilingual.transcribe_many([german, french], replace(PLAIN, batch_size=2)))
    assert batches == [1, 1]
    assert [one.language for one in both if isinstance(one, Transcript)] == ["de", "fr"]
    batches.clear()
    long = np.resize(audio.load(german), 75 * audio.SAMPLE_RATE)
    transcript = multilingual.transcribe(long, replace(PLAIN, batch_size=2))
    assert transcript.language == "de"
    assert batches == [1] * len(transcript.windows)


@pytest.mark.parametrize(("given", "expected"), [(None, ""), ("de", "de")])
def test_no_language_is_detected_where_nobody_speaks(
    quantized: Transcriber, given: str | None, expected: str
) -> None:
    silence = np.zeros(3 * audio.SAMPLE_RATE, np.float32)
    transcript = quantized.transcribe(silence, Options(language=given))
    assert not transcript.windows
    assert (transcript.language, transcript.language_probability) == (expected, None)


def test_translation_is_english(multilingual: Transcriber, data: Path) -> None:
    file = min(p for p in (data / "multilingual" / "de").iterdir() if p.suffix != ".txt")
    german = multilingual.transcribe(file, Options(language="de")).text
    english = multilingual.transcribe(file, Options(language="de", task="translate")).text
    assert english != german
    assert {"the", "of", "and", "to", "a"} & set(english.lower().split())


def test_the_words_of_a_translation_are_english_ones(multilingual: Transcriber, data: Path) -> None:
    """Chinese has none between its spaces; what it is translated to does."""
    file = min(p for p in (data / "multilingual" / "zh").iterdir() if p.suffix != ".txt")
    options = Options(language="zh", task="translate", words=True, temperatures=(0.0,))
    spoken = multilingual.transcribe(file, options)
    words = [word.text.strip() for segment in spoken.segments for word in segment.words]
    assert len(words) > 5
    assert words == spoken.text.split()


def test_a_transcript_names_the_voice_detector_that_ran(
    lean: Transcriber, speech: list[Path]
) -> None:
    found = {
        vad: lean.transcribe(speech[1], Options(vad=vad)).vad for vad in get_args(VoiceDetector)
    }
    assert found == {"auto": "silero", "silero": "silero", "energy": "energy", "none": "none"}


def test_unusable_samples(tiny: Transcriber) -> None:
    with pytest.raises(AudioError):
        tiny.transcribe(np.full(16_000, np.nan, np.float32))


def test_no_word_is_said_twice_or_lost_where_a_window_begins(lean: Transcriber, data: Path) -> None:
    """The text before the seam ends with "feel the"; the quietest moment is before "the"."""
    samples = audio.load(data / "longform" / "librispeech_1089-134686_concat.flac")
    begin = round(110.3 * audio.SAMPLE_RATE)
    part = samples[begin : begin + 34 * audio.SAMPLE_RATE]
    transcript = lean.transcribe(part, Options(timestamps=True))
    assert len(transcript.windows) > 1
    assert "hear and feel the more deeply his own condemnation" in transcript.text


@pytest.mark.parametrize("options", [Options(), Options(batch_size=2)])
def test_a_text_that_ends_before_the_sound_does_is_gone_on_with(
    quantized: Transcriber, data: Path, options: Options
) -> None:
    """Of a phrase that is said twice, whisper-base writes the first, and is unsure of the end."""
    twice = data / "LibriSpeech/test-other/3005/163389/3005-163389-0001.flac"
    texts = {
        threshold: quantized.transcribe(
            twice, replace(options, language="en", min_end_probability=threshold)
        ).text
        for threshold in (options.min_end_probability, None)
    }
    whole, short = (len(re.findall("down the fence", text)) for text in texts.values())
    assert (whole, short) == (2, 1)


def test_a_sentence_said_twice_is_written_twice(quantized: Transcriber, data: Path) -> None:
    sentence = audio.load(data / "LibriSpeech/dev-clean/84/121123/84-121123-0004.flac")
    pause = np.zeros(audio.SAMPLE_RATE // 2, dtype=np.float32)
    twice = np.concatenate([sentence, pause, sentence])
    assert quantized.transcribe(twice, Options(language="en")).text.count("restorative") == 2


@pytest.mark.parametrize("timestamps", [False, True])
def test_a_short_sentence_at_the_end_is_not_lost(
    onnx_bundle: Path, data: Path, timestamps: bool
) -> None:
    """With timestamps, the model ends its text 1.5 s before the sound does."""
    speech = data / "LibriSpeech" / "dev-clean"
    long, short = (
        audio.load(speech / path)
        for path in ("84/121123/84-121123-0005.flac", "2902/9008/2902-9008-0008.flac")
    )
    samples = np.concatenate([long, np.zeros(audio.SAMPLE_RATE // 2, np.float32), short / 2])
    transcriber = load(onnx_bundle, threads=2, audio_context="full")
    transcript = transcriber.transcribe(samples, Options(timestamps=timestamps, vad="none"))
    assert transcript.text.endswith("What do I care for food?")


def test_whole_texts_stay_as_they_are(quantized: Transcriber, speech: list[Path]) -> None:
    for path in speech[:2]:
        texts = [
            quantized.transcribe(path, Options(language="en", min_end_probability=threshold))
            for threshold in (0.95, None)
        ]
        assert texts[0] == texts[1]


def test_clips_have_the_text_and_times_of_their_part(lean: Transcriber, speech: list[Path]) -> None:
    parts = [audio.load(path) for path in speech[:3]]
    begins = np.cumsum([0, *(len(part) for part in parts)]) / audio.SAMPLE_RATE
    clips = (0.0, begins[1], begins[2])  # the first, and the third to the end
    options = Options(clip_timestamps=tuple(map(float, clips)), words=True)
    transcript = lean.transcribe(np.concatenate(parts), options)
    alone = [lean.transcribe(parts[n], Options(words=True)).text for n in (0, 2)]
    assert transcript.text == " ".join(alone)
    for segment in transcript.segments:
        for word in segment.words:
            assert word.end <= begins[1] + 0.01 or word.start >= begins[2] - 0.01
    assert transcript.duration == pytest.approx(begins[3], abs=0.01)


def test_a_clip_after_the_end_of_a_recording_is_an_error(
    onnx_bundle: Path, speech: list[Path]
) -> None:
    transcriber = load(onnx_bundle, threads=2)
    for vad in ("none", "energy"):
        with pytest.raises(AudioError, match=f"^{speech[1]} is .* s long: the clip at 100 s"):
            transcriber.transcribe(speech[1], Options(clip_timestamps=(0, 1, 100), vad=vad))


def test_every_window_has_its_own_language(multilingual: Transcriber, data: Path) -> None:
    german, french = (
        audio.load(min(p for p in (data / "multilingual" / of).iterdir() if p.suffix != ".txt"))
        for of in ("de", "fr")
    )
    ends = (len(german) / audio.SAMPLE_RATE, (len(german) + len(french)) / audio.SAMPLE_RATE)
    options = Options(multilingual=True, clip_timestamps=(0.0, ends[0], *ends))
    transcript = multilingual.transcribe(np.concatenate([german, french]), options)
    assert [segment.language for segment in transcript.segments] == ["de", "fr"]
    assert transcript.language == "de"
    with pytest.raises(EdgeWhisperError, match="leave out language"):
        multilingual.transcribe(german, Options(multilingual=True, language="de"))


def test_penalties_and_forbidden_tokens_change_the_text(
    lean: Transcriber, speech: list[Path]
) -> None:
    plain = lean.transcribe(speech[0], PLAIN)
    first = plain.segments[0].tokens[0]
    without = lean.transcribe(speech[0], replace(PLAIN, suppress=(-1, first)))
    assert first not in without.segments[0].tokens
    once = lean.transcribe(speech[0], replace(PLAIN, no_repeat_ngram=1)).segments[0].tokens
    assert len(set(once)) == len(once)
    with pytest.raises(EdgeWhisperError, match="suppress has 99999"):
        lean.transcribe(speech[0], replace(PLAIN, suppress=(99999,)))


def test_the_end_of_a_text_cannot_be_forbidden(onnx_bundle: Path, speech: list[Path]) -> None:
    transcriber = load(onnx_bundle, threads=2)
    end = transcriber.decoder.tokenizer.end_of_text
    with pytest.raises(EdgeWhisperError, match=f"suppress has {end}, the end of a text"):
        transcriber.transcribe(speech[0], Options(suppress=(-1, end)))


@pytest.mark.parametrize("threads", [0, -1, 10**6])
def test_a_number_of_threads_that_no_machine_has(onnx_bundle: Path, threads: int) -> None:
    with pytest.raises(EdgeWhisperError, match="threads is a number from 1 to 1024"):
        load(onnx_bundle, threads=threads)
