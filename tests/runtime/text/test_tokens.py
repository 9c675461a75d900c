"""The tokenizer against the reference implementations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgewhisper.checkpoints import Checkpoint
from edgewhisper_runtime.errors import BundleError, EdgeWhisperError
from edgewhisper_runtime.text.tokens import Tokenizer


@pytest.mark.parametrize("model", ["tiny_en", "base"])
def test_decodes_as_the_reference_does(
    model: str, data: Path, request: pytest.FixtureRequest
) -> None:
    from tokenizers import Tokenizer as Reference

    path = request.getfixturevalue(model).path / "tokenizer.json"
    ours, reference = Tokenizer(path), Reference.from_file(str(path))
    texts = [file.read_text() for file in sorted((data / "multilingual").rglob("*.txt"))]
    assert len(texts) >= 5
    for text in texts:
        ids = reference.encode(text, add_special_tokens=False).ids
        assert ours.decode(ids) == text
    random = np.random.default_rng(0).integers(0, ours.end_of_text, (50, 12))
    for ids in random:
        assert ours.decode(ids.tolist()) == reference.decode(ids.tolist())


def test_encodes_as_the_reference_does(tiny_en: Checkpoint, data: Path) -> None:
    from tokenizers import Tokenizer as Reference

    path = tiny_en.path / "tokenizer.json"
    ours, reference = Tokenizer(path), Reference.from_file(str(path))
    texts = [file.read_text() for file in sorted(data.rglob("*.txt"))]
    texts += [
        "",
        " ",
        "  two  spaces\n\n and\ta tab ",
        "it's I'LL we've 'tis",
        "x²½ 123abc ü\u00a0é",
    ]
    characters = np.array(list(" ab'stre1²é中\n\t.,!🙂ि\u00a0\u3000 LÜ"))
    random = np.random.default_rng(0)
    texts += ["".join(random.choice(characters, random.integers(1, 15))) for _ in range(300)]
    for text in texts:
        assert ours.encode(text) == reference.encode(text, add_special_tokens=False).ids


def test_a_text_encoded_and_decoded_is_the_text(base: Checkpoint, data: Path) -> None:
    tokenizer = Tokenizer(base.path / "tokenizer.json")
    for file in sorted((data / "multilingual").rglob("*.txt")):
        assert tokenizer.decode(tokenizer.encode(file.read_text())) == file.read_text()
    assert tokenizer.encode(" the") == [264]


def test_special_tokens_are_left_out(base: Checkpoint) -> None:
    tokenizer = Tokenizer(base.path / "tokenizer.json")
    assert tokenizer.decode([50258, 50259, 50359, 50363, 2425, 50364, 50257]) == " Hello"


def test_timestamp_tokens_are_known_to_the_reference(base: Checkpoint, tiny_en: Checkpoint) -> None:
    from tokenizers import Tokenizer as Reference

    for checkpoint, first in ((base, 50364), (tiny_en, 50363)):
        reference = Reference.from_file(str(checkpoint.path / "tokenizer.json"))
        assert reference.token_to_id("<|0.00|>") == first
        assert reference.token_to_id("<|30.00|>") == first + 1500


def test_prompts_are_those_of_transformers(base: Checkpoint, tiny_en: Checkpoint) -> None:
    from transformers import WhisperTokenizerFast

    reference = WhisperTokenizerFast.from_pretrained(base.path)
    tokenizer = Tokenizer(base.path / "tokenizer.json")
    for language in ("en", "de", "zh"):
        for task in ("transcribe", "translate"):
            reference.set_prefix_tokens(language=language, task=task, predict_timestamps=False)
            assert tokenizer.prompt(language, task) == reference.prefix_tokens
    assert len(tokenizer.languages) == 99
    assert Tokenizer(tiny_en.path / "tokenizer.json").prompt("en") == [50257, 50362]


def test_a_language_the_model_lacks(base: Checkpoint, tiny_en: Checkpoint) -> None:
    with pytest.raises(EdgeWhisperError, match="unknown language 'xx'"):
        Tokenizer(base.path / "tokenizer.json").prompt("xx")
    with pytest.raises(EdgeWhisperError, match="only transcribes English"):
        Tokenizer(tiny_en.path / "tokenizer.json").prompt("de")


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"added_tokens": [], "model": {"vocab": {}}}']
)
def test_a_file_that_is_no_tokenizer(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(BundleError, match="not a Whisper tokenizer"):
        Tokenizer(tmp_path / "tokenizer.json")
