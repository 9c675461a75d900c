"""What is compared when a text is scored: by which normalizer, and in words or characters.

OpenAI's rules (Radford et al. 2022, "Robust speech recognition via large-scale weak supervision",
appendix C), as packaged in `whisper-normalizer`: the English normalizer for English, the basic one
for every other language, and every character on its own where words are not spaced. Data may name
one of the three for all of its texts instead.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from typing import Literal

from edgewhisper_runtime.bundle import Metric
from edgewhisper_runtime.errors import DataError

# Appendix C names Chinese, Japanese, Thai, Lao and Burmese. Cantonese and Khmer are not spaced
# either; Korean is, but writers differ in where, so Korean is usually scored in characters too.
CHARACTER_LANGUAGES = frozenset({"zh", "ja", "th", "lo", "my", "yue", "km", "ko"})
_DISTRIBUTION = "whisper-normalizer"

NormalizerName = Literal["english", "basic", "characters"]


@dataclass(frozen=True)
class Normalizer:
    """The distribution that normalized texts, its version, and a SHA-256 over its rules."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class Rule:
    """How texts are scored: a normalizer, by its name in reports, and a metric."""

    normalizer: str
    metric: Metric


RULES: dict[NormalizerName, Rule] = {
    "english": Rule("Whisper's English normalizer", "WER"),
    "basic": Rule("Whisper's basic normalizer", "WER"),
    "characters": Rule("Whisper's basic normalizer, split letters", "CER"),
}


def rule(language: str, normalizer: NormalizerName | None = None) -> Rule:
    """Return how texts are scored: by a normalizer, or as usual in their language.

    `language` is a code of Whisper's such as "de".
    """
    if normalizer is not None:
        return RULES[normalizer]
    if language == "en":
        return RULES["english"]
    return RULES["characters" if language in CHARACTER_LANGUAGES else "basic"]


def metric(rules: Iterable[Rule]) -> Metric:
    """Return the metric of texts that are scored by these rules, taken together.

    "MER" for a mixture of words and characters: the mixed error rate, in which a character of an
    unspaced language counts as a word does (Vu et al. 2012, "A first speech recognition system for
    Mandarin-English code-switch conversational speech").
    """
    metrics = {each.metric for each in rules}
    return metrics.pop() if len(metrics) == 1 else "MER"


def units(text: str, scored: Rule) -> list[str]:
    """Return the words of a text, or its characters, as a rule has them.

    A character is an extended grapheme cluster (Unicode Annex 29); spaces do not count. Raises
    DataError for a text that the normalizer cannot read.
    """
    try:
        return _normalize(scored)(text).split()
    except AssertionError as error:  # of the English one
        raise DataError(
            "the normalizer cannot read a number of more than 4300 digits. Take it out."
        ) from error


def is_spoken(text: str, scored: Rule) -> bool:
    """Return whether a text has a word, with a letter or a digit: English keeps "$" and "..." too.

    Raises DataError as `units` does.
    """
    return any(character.isalnum() for unit in units(text, scored) for character in unit)


def remark(language: str, references: Iterable[str]) -> str:
    """Return what a reader of a language's error rate must know of its texts; mostly nothing."""
    if language in {"zh", "yue"}:
        return "Traditional and Simplified characters count as different."
    if language == "en" or not any(_has_marks(reference) for reference in references):
        return ""
    if language in CHARACTER_LANGUAGES:
        return "The normalizer removes combining marks, so errors in vowel signs are not counted."
    return (
        "The normalizer puts spaces in place of combining marks, so words are counted in the "
        "pieces between them."
    )


@lru_cache
def normalizer() -> Normalizer:
    """Return which normalizer is installed."""
    distribution = metadata.distribution(_DISTRIBUTION)
    digest = hashlib.sha256()
    for file in sorted(distribution.files or (), key=str):
        if file.name in {"english.py", "basic.py", "english.json"}:
            digest.update(file.read_binary())
    return Normalizer(_DISTRIBUTION, distribution.version, digest.hexdigest())


@lru_cache
def _normalize(scored: Rule) -> Callable[[str], str]:
    from whisper_normalizer.basic import BasicTextNormalizer
    from whisper_normalizer.english import EnglishTextNormalizer

    if scored == RULES["english"]:
        return EnglishTextNormalizer()
    return BasicTextNormalizer(split_letters=scored == RULES["characters"])


def _has_marks(text: str) -> bool:
    composed = unicodedata.normalize("NFKC", text)
    return any(unicodedata.category(character).startswith("M") for character in composed)
