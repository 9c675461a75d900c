"""Transcription of real speech through the public interface."""

from __future__ import annotations

from pathlib import Path

import jiwer
import numpy as np
import pytest

from edgewhisper.checkpoints import Checkpoint
from edgewhisper.evaluation.wer import Record, summarize
from edgewhisper.pipeline import stage
from edgewhisper.recipes import find_recipe
from edgewhisper_runtime import audio, load
from edgewhisper_runtime.errors import AudioError
from edgewhisper_runtime.transcriber import Transcriber


@pytest.fixture(scope="module")
def tiny(tiny_en: Checkpoint) -> Transcriber:
    return load(stage(tiny_en, find_recipe("fp32")))


@pytest.fixture(scope="module")
def multilingual(base: Checkpoint) -> Transcriber:
    return load(stage(base, find_recipe("fp32")))


def test_long_audio_is_transcribed_whole(tiny: Transcriber, data: Path) -> None:
    path = data / "longform" / "librispeech_1089-134686_concat.flac"
    reference = path.with_suffix(".txt").read_text()
    transcript = tiny.transcribe(path)
    assert transcript.duration == pytest.approx(276, abs=1)
    assert all(segment.end - segment.start <= 30 for segment in transcript.segments)
    for before, after in zip(transcript.segments, transcript.segments[1:], strict=False):
        assert after.start == before.end
    record = Record("long", "1089", reference, transcript.text, transcript.duration, 1.0)
    assert summarize([record])["wer"] < 12
    ending = transcript.text.lower()[-200:]
    assert sum(word in ending for word in reference.lower().split()[-10:]) >= 8


def test_samples_and_files_give_the_same_text(tiny: Transcriber, speech: list[Path]) -> None:
    from_file = tiny.transcribe(speech[0])
    from_samples = tiny.transcribe(audio.load(speech[0]))
    assert from_file == from_samples
    assert from_file.text
    assert from_file.problem is None


@pytest.mark.parametrize(("model", "ours"), [("tiny_en", "tiny"), ("base", "multilingual")])
def test_the_text_is_that_of_transformers_generate(
    model: str, ours: str, speech: list[Path], request: pytest.FixtureRequest
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
        inputs = WhisperFeatureExtractor()(
            audio.load(path), sampling_rate=audio.SAMPLE_RATE, return_tensors="pt"
        )
        (tokens,) = reference.generate(inputs.input_features, num_beams=1, do_sample=False, **named)
        expected = tokenizer.decode(tokens, skip_special_tokens=True).strip()
        assert transcriber.transcribe(path, language="en").text == expected


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


def test_translation_is_english(multilingual: Transcriber, data: Path) -> None:
    file = min(p for p in (data / "multilingual" / "de").iterdir() if p.suffix != ".txt")
    german = multilingual.transcribe(file, language="de").text
    english = multilingual.transcribe(file, language="de", task="translate").text
    assert english != german
    assert {"the", "of", "and", "to", "a"} & set(english.lower().split())


def test_unusable_samples(tiny: Transcriber) -> None:
    with pytest.raises(AudioError):
        tiny.transcribe(np.full(16_000, np.nan, np.float32))
