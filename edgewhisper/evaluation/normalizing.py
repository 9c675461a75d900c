"""What is compared when a language is scored: which normalizer, and words or characters.

OpenAI's rules (Radford et al. 2022, "Robust speech recognition via large-scale weak supervision",
appendix C), as packaged in `whisper-normalizer`: the English normalizer for English, the basic one
for every other language, and every character on its own where words are not spaced.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata

from edgewhisper_runtime.bundle import Metric

# Appendix C names Chinese, Japanese, Thai, Lao and Burmese. Cantonese and Khmer are not spaced
# either; Korean is, but writers differ in where, so Korean is usually scored in characters too.
CHARACTER_LANGUAGES = frozenset({"zh", "ja", "th", "lo", "my", "yue", "km", "ko"})
_DISTRIBUTION = "whisper-normalizer"


@dataclass(frozen=True)
class Normalizer:
    """The distribution that normalized texts, its version, and a SHA-256 over its rules."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class Rule:
    """How texts of a language are scored: a normalizer, by its name in reports, and a metric."""

    normalizer: str
    metric: Metric


_ENGLISH = Rule("Whisper's English normalizer", "WER")
_BASIC = Rule("Whisper's basic normalizer", "WER")
_CHARACTERS = Rule("Whisper's basic normalizer, split letters", "CER")


def rule(language: str) -> Rule:
    """Return how a language, a code of Whisper's such as "de", is scored."""
    if language == "en":
        return _ENGLISH
    return _CHARACTERS if language in CHARACTER_LANGUAGES else _BASIC


def metric(languages: Iterable[str]) -> Metric:
    """Return the metric of texts in these languages taken together.

    "MER" for a mixture of words and characters: the mixed error rate, in which a character of an
    unspaced language counts as a word does (Vu et al. 2012, "A first speech recognition system for
    Mandarin-English code-switch conversational speech").
    """
    metrics = {rule(language).metric for language in languages}
    return metrics.pop() if len(metrics) == 1 else "MER"


def units(text: str, language: str) -> list[str]:
    """Return the words of a text, or its characters, as they are scored.

    A character is an extended grapheme cluster (Unicode Annex 29); spaces do not count.
    """
    return _normalize(rule(language))(text).split()


def remark(language: str, references: Iterable[str]) -> str:
    """Return what a reader of a language's error rate must know of its texts; mostly nothing."""
    if language in {"zh", "yue"}:
        return "Traditional and Simplified characters count as different."
    if language != "en" and any(_has_marks(reference) for reference in references):
        return "The normalizer removes combining marks, so errors in vowel signs are not counted."
    return ""


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
def _normalize(of_language: Rule) -> Callable[[str], str]:
    from whisper_normalizer.basic import BasicTextNormalizer
    from whisper_normalizer.english import EnglishTextNormalizer

    if of_language == _ENGLISH:
        return EnglishTextNormalizer()
    return BasicTextNormalizer(split_letters=of_language == _CHARACTERS)


def _has_marks(text: str) -> bool:
    composed = unicodedata.normalize("NFKC", text)
    return any(unicodedata.category(character).startswith("M") for character in composed)
