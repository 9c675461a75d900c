"""Names and codes of languages: Whisper's own, and what people type."""

from __future__ import annotations

import pytest

from edgewhisper.checkpoints import Checkpoint
from edgewhisper_runtime.errors import EdgeWhisperError
from edgewhisper_runtime.text.languages import LANGUAGES, to_code
from edgewhisper_runtime.text.tokens import Tokenizer


def test_they_are_those_of_the_model(base: Checkpoint) -> None:
    tokens = Tokenizer(base.path / "tokenizer.json").languages
    assert list(LANGUAGES) == [*sorted(tokens, key=tokens.__getitem__), "yue"]


def test_they_are_called_as_transformers_calls_them() -> None:
    from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

    assert {name: to_code(name) for name in TO_LANGUAGE_CODE} == TO_LANGUAGE_CODE


@pytest.mark.parametrize(
    ("given", "code"), [("de", "de"), ("DE", "de"), ("German", "de"), (" Haitian Creole ", "ht")]
)
def test_case_and_spaces_do_not_matter(given: str, code: str) -> None:
    assert to_code(given) == code


def test_what_is_unknown_gets_a_suggestion() -> None:
    with pytest.raises(EdgeWhisperError, match=r"'portugese'\. Did you mean portuguese \(pt\)\?"):
        to_code("portugese")
    with pytest.raises(EdgeWhisperError, match="Use a code"):
        to_code("")
