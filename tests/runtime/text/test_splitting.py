"""Words of many languages, with the vocabulary of whisper-base."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Encoder

from conftest import TokenizerOf
from edgewhisper_runtime.text.splitting import split
from edgewhisper_runtime.text.tokens import Tokenizer

WORDS = {
    "en": [' "Hello,"', " she", " said", " - well-known...", "no,", " 50%", " of", " $20", " (a)."],
    "de": [" Die", " Straße,", " „groß“", " und", " übermäßig", " — so", " ist's!"],
    "fr": [" Bonjour !", " « L'homme »", " dit-il ?"],
    "es": [" ¿Qué?", " ¡Sí!"],
    "zh": ["这是", "一个", "测", "试，", "龘", "靐。", "「你好」", "吗？"],  # noqa: RUF001 # as Chinese is written
    "th": ["ส", "วั", "ส", "ดี"],
}
SPOKEN = {
    "en": ["Hello", " she", " said", " well-known", "no", " 50%", " of", " $20", "a"],
    "zh": ["这是", "一个", "测", "试", "龘", "靐", "你好", "吗"],
}


@pytest.fixture(scope="module")
def encoder(tokenizer_of: TokenizerOf) -> Encoder:
    return Encoder.from_file(str(tokenizer_of("whisper-base")))


@pytest.fixture(scope="module")
def tokenizer(tokenizer_of: TokenizerOf) -> Tokenizer:
    return Tokenizer(tokenizer_of("whisper-base"))


@pytest.mark.parametrize("language", WORDS)
def test_words_have_the_punctuation_that_is_theirs(
    encoder: Encoder, tokenizer: Tokenizer, language: str
) -> None:
    tokens = encoder.encode("".join(WORDS[language]), add_special_tokens=False).ids
    words = split(tokenizer, tokens, language)
    assert [word.text for word in words] == WORDS[language]
    if language in SPOKEN:
        spoken = [tokenizer.decode(tokens[slice(*word.spoken)]) for word in words]
        assert spoken == SPOKEN[language]


def test_words_of_real_texts_are_those_between_spaces(
    encoder: Encoder, tokenizer: Tokenizer, data: Path
) -> None:
    texts = sorted((data / "multilingual" / "de").glob("*.txt"))
    assert texts
    for path in texts:
        text = " " + path.read_text(encoding="utf-8").strip()
        tokens = encoder.encode(text, add_special_tokens=False).ids
        assert [word.text.strip() for word in split(tokenizer, tokens, "de")] == text.split()


@given(st.lists(st.integers(0, 51864), max_size=12), st.sampled_from(["en", "zh", "th"]))
def test_nothing_is_lost(tokenizer: Tokenizer, tokens: list[int], language: str) -> None:
    """Of any tokens: broken characters and special ones too."""
    words = split(tokenizer, tokens, language)
    assert "".join(word.text for word in words) == tokenizer.decode(tokens)
    bounds = [0, *(word.end for word in words)]
    assert [word.start for word in words] == bounds[:-1]
    assert bounds[-1] == len(tokens)
    for word in words:
        assert word.start <= word.spoken[0] < word.spoken[1] <= word.end
