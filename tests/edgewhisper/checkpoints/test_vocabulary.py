"""A vocabulary cut to some languages: the tokens that are left mean and compute what they did."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import BundleOf, Run
from edgewhisper.backend import TorchBackend
from edgewhisper.checkpoints import Checkpoint, vocabulary
from edgewhisper.recipes import Recipe, find_recipe
from edgewhisper.recipes.sizes import exported_bytes
from edgewhisper.workspace import Workspace
from edgewhisper_runtime import audio, load
from edgewhisper_runtime.audio import features
from edgewhisper_runtime.bundle import TOKENIZER, to_json
from edgewhisper_runtime.decode.rules import TIMESTAMPS
from edgewhisper_runtime.errors import EdgeWhisperError, RecipeError
from edgewhisper_runtime.options import PLAIN, Options
from edgewhisper_runtime.text.tokens import Tokenizer
from edgewhisper_runtime.transcriber import Transcriber
from edgewhisper_runtime.transcript import Transcript


@pytest.fixture(scope="module")
def english(workspace: Workspace, base: Checkpoint) -> Checkpoint:
    return vocabulary.cut(workspace, base, ["en"])


def tokenizer_of(checkpoint: Checkpoint) -> Tokenizer:
    return Tokenizer(checkpoint.path / TOKENIZER)


def kept(whole: Checkpoint, cut: Checkpoint) -> list[int]:
    """Return the ids in the whole vocabulary of the tokens in a cut one, in their order there."""
    old, new = (_ids_by_name(checkpoint) for checkpoint in (whole, cut))
    return [old[name] for name in sorted(new, key=new.__getitem__)]


def _ids_by_name(checkpoint: Checkpoint) -> dict[str, int]:
    content = json.loads((checkpoint.path / TOKENIZER).read_text())
    added = {token["content"]: token["id"] for token in content["added_tokens"]}
    return content["model"]["vocab"] | added


def transcriber(checkpoint: Checkpoint) -> Transcriber:
    backend = TorchBackend(checkpoint.load())
    return Transcriber(backend, tokenizer_of(checkpoint), checkpoint.settings())


def tokens(transcript: Transcript) -> list[int]:
    return [*chain.from_iterable(window.tokens for window in transcript.windows)]


def test_ids_have_no_holes_and_settings_follow_them(base: Checkpoint, english: Checkpoint) -> None:
    from safetensors.numpy import load_file

    before, after = tokenizer_of(base), tokenizer_of(english)
    ids = kept(base, english)
    new = {token: row for row, token in enumerate(ids)}
    assert ids == sorted(set(ids))
    assert 0.5 < len(ids) / base.architecture.vocabulary < 0.7
    assert english.architecture.vocabulary == len(ids) == english.config()["vocab_size"]
    assert after.first_timestamp + TIMESTAMPS == len(ids)
    assert list(after.languages) == ["en"]
    assert [ids[token] for token in after.prompt("en")] == before.prompt("en")
    was, settings = base.settings(), english.settings()
    assert settings.suppress == tuple(new[token] for token in was.suppress if token in new)
    assert settings.suppress_first == tuple(new[token] for token in was.suppress_first)
    assert replace(settings, suppress=was.suppress, suppress_first=was.suppress_first) == was
    rows = [
        load_file(checkpoint.path / "model.safetensors")["model.decoder.embed_tokens.weight"]
        for checkpoint in (base, english)
    ]
    np.testing.assert_array_equal(rows[0][ids], rows[1])


def test_the_numbers_of_a_token_are_those_of_the_whole_model(
    base: Checkpoint, english: Checkpoint, speech: list[Path]
) -> None:
    ids = kept(base, english)
    mels = features.log_mel(audio.load(speech[0])[: 5 * audio.SAMPLE_RATE], 80, 500)[None]
    logits = []
    for checkpoint in (base, english):
        backend, tokenizer = TorchBackend(checkpoint.load()), tokenizer_of(checkpoint)
        cache = backend.start(backend.encode(mels))
        logits += [
            backend.step(np.array([text]), cache)
            for text in (tokenizer.prompt("en"), tokenizer.encode(" the"))
        ]
    for whole, cut in zip(logits[:2], logits[2:], strict=True):
        # A product of matrices sums some rows in another order, which depends on their number.
        np.testing.assert_allclose(whole[:, ids], cut, rtol=1e-5)


def test_texts_are_those_of_the_whole_model(
    base: Checkpoint, english: Checkpoint, speech: list[Path], data: Path
) -> None:
    """Where the whole model needs no token that was cut, and that is nearly everywhere."""
    ids = set(kept(base, english))
    whole, cut = transcriber(base), transcriber(english)
    clips = [*speech[:3], *sorted((data / "multilingual" / "en").glob("*.ogg"))[:2]]
    texts = [
        [each.transcribe(clip, PLAIN, language="en") for each in (whole, cut)] for clip in clips
    ]
    expressible = [(a.text, b.text) for a, b in texts if ids.issuperset(tokens(a))]
    assert len(expressible) >= 3
    for expected, text in expressible:
        assert text == expected
    timed = Options(language="en", timestamps=True, words=True)
    first, second = (each.transcribe(clips[0], timed) for each in (whole, cut))
    words = [
        [(word.start, word.end, word.text) for segment in each.segments for word in segment.words]
        for each in (first, second)
    ]
    assert words[0] == words[1] != []


def test_another_reader_of_the_checkpoint_agrees(english: Checkpoint, speech: list[Path]) -> None:
    """Transformers' own decoding uses the languages, tasks and suppressed tokens of the files."""
    import torch
    from transformers import GenerationConfig, WhisperTokenizerFast

    model = english.load()
    model.generation_config = GenerationConfig.from_pretrained(english.path)
    clip = audio.load(speech[0])
    mels = torch.from_numpy(features.log_mel(clip, 80))[None]
    (ids,) = model.generate(mels, language="en", task="transcribe", return_timestamps=False)
    reference = WhisperTokenizerFast.from_pretrained(english.path)
    text = transcriber(english).transcribe(clip, PLAIN).text
    assert reference.decode(ids, skip_special_tokens=True).strip() == text


def test_any_text_can_be_written(base: Checkpoint, english: Checkpoint, data: Path) -> None:
    whole, cut = tokenizer_of(base), tokenizer_of(english)
    new = {token: row for row, token in enumerate(kept(base, english))}
    for path in sorted((data / "multilingual").rglob("*.txt")):
        text = path.read_text()
        assert cut.decode(cut.encode(text)) == text
    for path in sorted((data / "multilingual" / "en").glob("*.txt")):
        for word in path.read_text().split():
            ids = whole.encode(f" {word}")
            if new.keys() >= set(ids):
                assert cut.encode(f" {word}") == [new[token] for token in ids]


def test_an_unspaced_language_keeps_its_script(
    workspace: Workspace, base: Checkpoint, data: Path
) -> None:
    """Its tokens reach over words, so a list of words would not do."""
    chinese = vocabulary.cut(workspace, base, ["zh"])
    ids, whole = kept(base, chinese), tokenizer_of(base)
    assert len(ids) < 0.3 * base.architecture.vocabulary
    (clip,) = (data / "multilingual" / "zh").glob("*.wav")
    text = clip.with_suffix(".txt").read_text()
    assert [ids[token] for token in tokenizer_of(chinese).encode(text)] == whole.encode(text)
    expected, transcript = (
        transcriber(checkpoint).transcribe(clip, PLAIN, language="zh")
        for checkpoint in (base, chinese)
    )
    assert transcript.text == expected.text


def test_only_the_languages_that_are_left_are_detected(
    workspace: Workspace, base: Checkpoint, data: Path
) -> None:
    both = transcriber(vocabulary.cut(workspace, base, ["de", "es"]))
    for code in ("de", "es"):
        clip = data / "multilingual" / code / f"fleurs-{code}-000.ogg"
        transcript = both.transcribe(clip, PLAIN)
        assert transcript.language == code
        assert transcript.language_probability is not None
    (english,) = sorted((data / "multilingual" / "en").glob("*000.ogg"))
    assert both.transcribe(english, PLAIN).language in {"de", "es"}
    with pytest.raises(EdgeWhisperError, match="does not have the language 'en'"):
        both.transcribe(english, PLAIN, language="en")
    with pytest.raises(EdgeWhisperError, match=r"translation is in English.* cut to de, es"):
        both.transcribe(english, PLAIN, task="translate")


def test_an_english_only_model_stays_one(
    workspace: Workspace, tiny_en: Checkpoint, speech: list[Path]
) -> None:
    cut = vocabulary.cut(workspace, tiny_en, ["en"])
    tokenizer, ids = tokenizer_of(cut), kept(tiny_en, cut)
    assert not tokenizer.multilingual
    assert [ids[token] for token in tokenizer.prompt("en")] == [50257, 50362]
    texts = [transcriber(one).transcribe(speech[1], PLAIN).text for one in (tiny_en, cut)]
    assert texts[0] == texts[1]
    with pytest.raises(EdgeWhisperError, match="only transcribes English"):
        tokenizer.prompt("de")


def test_an_export_speaks_the_language_that_is_left(
    bundle_of: BundleOf, run: Run, speech: list[Path], data: Path
) -> None:
    directory = bundle_of("whisper-base", "onnx-int8-en")
    english = load(directory)
    options = Options(timestamps=True, words=True, prompt="Grüße aus 東京:", hotwords=("Ladislaw",))
    transcript = english.transcribe(speech[0], options)
    assert transcript.language == "en"
    assert transcript.language_probability is None
    assert [word.text for segment in transcript.segments for word in segment.words]
    plain, whole = (
        bundle.transcribe(speech[0], PLAIN, language="en").text
        for bundle in (english, load(bundle_of("whisper-base", "onnx-int8")))
    )
    assert plain == whole
    refused = run("transcribe", "--bundle", directory, "--language", "French", speech[0])
    assert refused.returncode == 1
    assert "does not have the language 'fr'. Use one of: en." in refused.stderr
    assert "english (en) only" in run("info", directory).stdout
    manifest = json.loads((directory / "manifest.json").read_text())
    assert manifest["recipe"]["languages"] == ["en"]
    assert manifest["model"]["source"]["vocabulary"]["of"] == 51_865
    assert "those of the model" in run("info", bundle_of("whisper-base", "onnx-int8")).stdout


def test_the_size_is_computed(english: Checkpoint, bundle_of: BundleOf) -> None:
    recipe = find_recipe("onnx-int8-en")
    size = sum(
        path.stat().st_size for path in bundle_of("whisper-base", recipe.name).glob("*.onnx")
    )
    assert size == pytest.approx(exported_bytes(english.config(), recipe), rel=0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"languages": ["english"]}, r"languages has \['english'\]; use Whisper's codes"),
        ({"languages": "en"}, "languages must be a list"),
        ({"languages": ["de"], "base": "onnx-int4-gptq"}, "calibration data is English"),
    ],
)
def test_recipes_that_contradict_themselves(change: dict[str, Any], message: str) -> None:
    change = dict(change)
    content = to_json(find_recipe(change.pop("base", "onnx-int8")))
    with pytest.raises(RecipeError, match=message):
        Recipe.from_dict(content | change, "mine")


def test_languages_that_are_not_there(
    workspace: Workspace, base: Checkpoint, tiny_en: Checkpoint
) -> None:
    with pytest.raises(RecipeError, match=r"cut to 'cy', as wordfreq has no list"):
        vocabulary.cut(workspace, base, ["en", "cy"])
    with pytest.raises(RecipeError, match=r"cut to 'de': whisper-tiny\.en does not have"):
        vocabulary.cut(workspace, tiny_en, ["de"])


def test_data_in_a_language_that_is_cut_is_refused_before_any_work(
    data: Path, run: Run, tmp_path: Path
) -> None:
    clip = data / "multilingual" / "de" / "fleurs-de-000.ogg"
    manifest = tmp_path / "calls.jsonl"
    row = {"audio_filepath": str(clip), "text": clip.with_suffix(".txt").read_text(), "lang": "de"}
    manifest.write_text(json.dumps(row))
    for command in ("build", "evaluate"):
        result = run(
            command, "--model", "base", "--recipe", "onnx-int8-en", "--data", manifest,
            env_home=tmp_path,
        )  # fmt: skip
        assert result.returncode == 8
        assert "calls has utterances in german (1), and whisper-base keeps only english" in (
            result.stderr
        )
        assert not (tmp_path / "variants").exists()
