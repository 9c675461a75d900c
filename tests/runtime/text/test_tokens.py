"""The tokenizer against the reference implementations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import TokenizerOf
from edgewhisper_runtime.errors import BundleError, EdgeWhisperError
from edgewhisper_runtime.text.tokens import Tokenizer

if TYPE_CHECKING:
    from edgewhisper.checkpoints import Checkpoint

Encoder = Callable[[str], list[int]]


@pytest.mark.parametrize("model", ["whisper-tiny.en", "whisper-base"])
def test_decodes_as_the_reference_does(model: str, data: Path, tokenizer_of: TokenizerOf) -> None:
    from tokenizers import Tokenizer as Reference

    path = tokenizer_of(model)
    ours, reference = Tokenizer(path), Reference.from_file(str(path))
    texts = [file.read_text() for file in sorted((data / "multilingual").rglob("*.txt"))]
    assert len(texts) >= 5
    for text in texts:
        ids = reference.encode(text, add_special_tokens=False).ids
        assert ours.decode(ids) == text
    random = np.random.default_rng(0).integers(0, ours.end_of_text, (50, 12))
    for ids in random:
        assert ours.decode(ids.tolist()) == reference.decode(ids.tolist())


def test_encodes_as_the_reference_does(tokenizer_of: TokenizerOf, data: Path) -> None:
    from tokenizers import Tokenizer as Reference

    path = tokenizer_of("whisper-tiny.en")
    ours, reference = Tokenizer(path), Reference.from_file(str(path))
    texts = [file.read_text() for file in sorted(data.rglob("*.txt"))]
    texts += [
        "",
        " ",
        "  two  spaces\n\n and\ta tab ",
        "it's I'LL we've 'tis",
        "x²½ 123abc ü\u00a0é",
    ]
    for text in texts:
        assert ours.encode(text) == reference.encode(text, add_special_tokens=False).ids


def reference_of(path: Path) -> Any:
    from tokenizers import Tokenizer as Reference

    content = json.loads(path.read_text())
    merges = content["model"]["merges"]
    if merges[0] in ("Ġ a", ["Ġ", "a"]):  # the multilingual file lacks the first, not its token
        merges.insert(0, "Ġ t" if isinstance(merges[0], str) else ["Ġ", "t"])
    return Reference.from_str(json.dumps(content))


@pytest.fixture(scope="module", params=["whisper-tiny.en", "whisper-base"])
def encoders(request: pytest.FixtureRequest, tokenizer_of: TokenizerOf) -> tuple[Encoder, Encoder]:
    path = tokenizer_of(request.param)
    reference = reference_of(path)
    return Tokenizer(path).encode, lambda text: reference.encode(text, add_special_tokens=False).ids


# A surrogate is no character, and what looks like a special token is one to the reference.
_CHARACTERS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<"))
_TRICKY = st.text(st.sampled_from(" ab'stre1²é中\n\t.,!🙂ि\u00a0\u3000 LÜ"))


@given(text=_CHARACTERS | _TRICKY)
@settings(deadline=None, derandomize=True)
def test_encodes_any_text_as_the_reference_does(
    encoders: tuple[Encoder, Encoder], text: str
) -> None:
    ours, reference = encoders
    assert ours(text) == reference(text)


@pytest.mark.parametrize("part", ["a", "aeiou", "中文", "=", " ", "7", "THE", "🙂"])
def test_encodes_a_text_of_one_piece_as_the_reference_does(
    encoders: tuple[Encoder, Encoder], part: str
) -> None:
    """100,000 characters without a space: joining pair by pair must not take n² time."""
    ours, reference = encoders
    text = part * (100_000 // len(part))
    assert ours(text) == reference(text)


@given(seed=st.integers(0, 2**32))
@settings(deadline=None, derandomize=True)
def test_encodes_words_without_spaces_as_the_reference_does(
    encoders: tuple[Encoder, Encoder], seed: int, data: Path
) -> None:
    ours, reference = encoders
    words = (data / "multilingual").rglob("*.txt")
    letters = [c for file in sorted(words) for c in file.read_text() if c.isalpha()]
    text = "".join(np.random.default_rng(seed).choice(letters, 500))
    assert ours(text) == reference(text)


def test_a_broken_character_is_encoded_too(tokenizer_of: TokenizerOf) -> None:
    """Python has one for each byte of an argument that is not UTF-8."""
    tokenizer = Tokenizer(tokenizer_of("whisper-base"))
    assert tokenizer.decode(tokenizer.encode("caf\udce9")) == "caf?"


def test_a_text_encoded_and_decoded_is_the_text(tokenizer_of: TokenizerOf, data: Path) -> None:
    tokenizer = Tokenizer(tokenizer_of("whisper-base"))
    for file in sorted((data / "multilingual").rglob("*.txt")):
        assert tokenizer.decode(tokenizer.encode(file.read_text())) == file.read_text()
    assert tokenizer.encode(" the") == [264]


def test_special_tokens_are_left_out(tokenizer_of: TokenizerOf) -> None:
    tokenizer = Tokenizer(tokenizer_of("whisper-base"))
    assert tokenizer.decode([50258, 50259, 50359, 50363, 2425, 50364, 50257]) == " Hello"


def test_timestamp_tokens_are_known_to_the_reference(base: Checkpoint, tiny_en: Checkpoint) -> None:
    from tokenizers import Tokenizer as Reference

    for checkpoint, first in ((base, 50364), (tiny_en, 50363)):
        reference = Reference.from_file(str(checkpoint.path / "tokenizer.json"))
        assert reference.token_to_id("<|0.00|>") == first
        assert reference.token_to_id("<|30.00|>") == first + 1500


def test_prompts_are_those_of_transformers(tokenizer_of: TokenizerOf, base: Checkpoint) -> None:
    from transformers import WhisperTokenizerFast

    reference = WhisperTokenizerFast.from_pretrained(base.path)
    tokenizer = Tokenizer(tokenizer_of("whisper-base"))
    for language in ("en", "de", "zh"):
        for task in ("transcribe", "translate"):
            reference.set_prefix_tokens(language=language, task=task, predict_timestamps=False)
            assert tokenizer.prompt(language, task) == reference.prefix_tokens
    assert len(tokenizer.languages) == 99
    assert Tokenizer(tokenizer_of("whisper-tiny.en")).prompt("en") == [50257, 50362]


def test_a_language_the_model_lacks(tokenizer_of: TokenizerOf) -> None:
    with pytest.raises(EdgeWhisperError, match="does not have the language 'xx'"):
        Tokenizer(tokenizer_of("whisper-base")).prompt("xx")
    with pytest.raises(EdgeWhisperError, match="only transcribes English"):
        Tokenizer(tokenizer_of("whisper-tiny.en")).prompt("de")


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"added_tokens": [], "model": {"vocab": {}}}']
)
def test_a_file_that_is_no_tokenizer(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(BundleError, match=r"not a Whisper tokenizer|malformed"):
        Tokenizer(tmp_path / "tokenizer.json")


ADDED = ["Klinikum", "klin", "EdgeWhisper int8", "<laughs>", "x", "ra"]


@pytest.fixture(scope="module")
def fine_tuned(base: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """whisper-base's tokenizer with ordinary tokens added after the timestamps, and others."""
    from tokenizers import AddedToken
    from transformers import WhisperTokenizerFast

    tokenizer = WhisperTokenizerFast.from_pretrained(base.path)
    tokenizer.add_tokens(ADDED)
    tokenizer.add_tokens(
        [
            AddedToken("[left]", lstrip=True, rstrip=False, normalized=False),
            AddedToken("[right]", lstrip=False, rstrip=True, normalized=False),
            AddedToken("alone", single_word=True, normalized=False),
        ]
    )
    tokenizer.add_tokens(["<|mine|>"], special_tokens=True)
    directory = tmp_path_factory.mktemp("fine-tuned")
    tokenizer.save_pretrained(directory)
    return directory / "tokenizer.json"


def test_added_tokens_are_text_as_the_reference_has_them(fine_tuned: Path, data: Path) -> None:
    ours, reference = Tokenizer(fine_tuned), reference_of(fine_tuned)
    ids = [reference.token_to_id(content) for content in (*ADDED, "[left]", "[right]", "alone")]
    assert max(ids) > 51865
    assert min(ids) < ours.end_of_text, "some were in the vocabulary already"
    texts = [
        "in the Klinikum the kliniker uses EdgeWhisper int8 <laughs> x",
        "  [left]  [right]  a",
    ]
    texts += ["alone, alone lonealone alone_ (alone)", "[right] \n[left]", "xxkKlinikumx"]
    texts += [file.read_text() for file in sorted((data / "multilingual").rglob("*.txt"))]
    random = np.random.default_rng(0)
    words = [*ADDED, "[left]", "[right]", "alone", " ", "  ", "a", "K", ".", "é"]
    texts += ["".join(random.choice(words, random.integers(1, 12))) for _ in range(300)]
    for text in texts:
        expected = reference.encode(text, add_special_tokens=False).ids
        assert ours.encode(text) == expected
        assert ours.decode(expected) == reference.decode(expected)
    mixed = [*range(2425, 2430), *ids, 50257, reference.token_to_id("<|mine|>"), 50364, 300]
    for _ in range(50):
        random.shuffle(mixed)
        without_times = [token for token in mixed if token != 50364]
        assert ours.decode(mixed) == reference.decode(without_times)


def test_an_added_token_is_written_as_it_is(tokenizer_of: TokenizerOf, tmp_path: Path) -> None:
    """Also where its characters stand for bytes in the vocabulary."""
    content = json.loads((tokenizer_of("whisper-base")).read_text())
    content["added_tokens"].append({"id": 51865, "content": "Müller\u200d", "special": False})
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    tokenizer = Tokenizer(tmp_path / "tokenizer.json")
    assert tokenizer.decode([2425, 51865]) == " HelloMüller\u200d"
    assert tokenizer.encode("Müller\u200d") == [51865]


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["model"]["vocab"].pop("!"),
        lambda c: c["model"]["vocab"].update({"!": "0"}),
        lambda c: c["model"]["vocab"].update({"!": 2**31}),
        lambda c: c["model"]["vocab"].update({"!": True}),
        lambda c: c["model"]["vocab"].update({"\u4e2d": 0}),
        lambda c: c["model"].update(vocab=[]),
        lambda c: c["added_tokens"][0].update(id=2**31),
        lambda c: c["added_tokens"][0].update(id=-1),
        lambda c: c["added_tokens"][0].update(id=1.5),
        lambda c: c["added_tokens"][0].update(content=None),
        lambda c: c["added_tokens"].append({"id": 51865, "content": "x" * 5000}),
        lambda c: c["added_tokens"].append({"id": 51865, "content": ""}),
        lambda c: c["added_tokens"].append({"id": 51865, "content": "\ud800"}),
        lambda c: c["added_tokens"].append(7),
        lambda c: c.update(added_tokens=None),
    ],
)
def test_a_damaged_tokenizer(
    tokenizer_of: TokenizerOf,
    tmp_path: Path,
    change: Callable[[dict[str, Any]], object],
) -> None:
    path = tmp_path / "tokenizer.json"
    content = json.loads((tokenizer_of("whisper-base")).read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(BundleError, match=r"tokenizer\.json is not a Whisper tokenizer"):
        Tokenizer(path)
