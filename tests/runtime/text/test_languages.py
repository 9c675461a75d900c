"""Names and codes of languages: Whisper's own, and what people type."""

from __future__ import annotations

import pytest

from conftest import TokenizerOf
from edgewhisper_runtime.errors import EdgeWhisperError
from edgewhisper_runtime.text.languages import LANGUAGES, to_code
from edgewhisper_runtime.text.tokens import Tokenizer


def test_they_are_those_of_the_model(tokenizer_of: TokenizerOf) -> None:
    tokens = Tokenizer(tokenizer_of("whisper-base")).languages
    assert list(LANGUAGES) == [*sorted(tokens, key=tokens.__getitem__), "yue"]


@pytest.mark.usefixtures("host")
def test_they_are_called_as_transformers_calls_them() -> None:
    from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

    assert {name: to_code(name) for name in TO_LANGUAGE_CODE} == TO_LANGUAGE_CODE


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("de", "de"), ("DE", "de"), ("German", "de"), (" Haitian Creole ", "ht"),
        ("en-US", "en"), ("zh-CN", "zh"), ("zh_TW", "zh"), ("zh-Hant-HK", "zh"), ("pt-BR", "pt"),
        ("sr-Latn-RS", "sr"), ("de_DE.UTF-8", "de"), ("ca_ES@valencia", "ca"), ("es-419", "es"),
        ("nb", "no"), ("nb-NO", "no"), ("nn_NO", "nn"), ("jv", "jw"), ("jw", "jw"), ("iw", "he"),
        ("in", "id"), ("in-ID", "id"), ("ji", "yi"), ("fil", "tl"), ("fil-PH", "tl"),
        ("cmn", "zh"), ("cmn-Hans-CN", "zh"), ("zh-yue", "yue"), ("yue-HK", "yue"),
        ("chi-yue", "yue"), ("zh-cmn", "zh"), ("ar-arb", "ar"), ("en-IND", "en"), ("fra-BEL", "fr"),
        ("spa-PER", "es"), ("ara-MAR", "ar"), ("nld_BEL", "nl"),
        ("deu", "de"), ("ger", "de"), ("ENG", "en"), ("fre", "fr"),
        ("haw", "haw"), ("haw-US", "haw"),
        ("", None), (" ", None), ("auto", None), ("Auto", None),
    ],
)  # fmt: skip
def test_a_language_is_understood_by_name_code_and_tag(given: str, code: str | None) -> None:
    assert to_code(given) == code


@pytest.mark.parametrize(
    ("given", "suggestion"),
    [
        ("portugese", r"Did you mean portuguese \(pt\)\?"),
        ("jp", r"Did you mean japanese \(ja\)\?"),
        ("tlh", "Use a code"),
        ("x-klingon", "Use a code"),
        ("-", "Use a code"),
    ],
)
def test_what_is_unknown_gets_a_suggestion(given: str, suggestion: str) -> None:
    with pytest.raises(EdgeWhisperError, match=suggestion) as error:
        to_code(given)
    assert repr(given) in str(error.value)
