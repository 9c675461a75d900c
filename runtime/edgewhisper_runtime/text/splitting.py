"""Tokens into words: at spaces, or at every character where a language writes none."""

from __future__ import annotations

import codecs
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgewhisper_runtime.text.tokens import Tokenizer

# Languages that write no spaces between words.
UNSPACED = {"zh", "ja", "th", "lo", "my", "yue"}
_BREAKS = ("—", "\N{EN DASH}", "--", "…", "...")  # between two words without a space
_SPOKEN = "%&@#"  # punctuation to Unicode, words to a reader
_OPENING = {"Ps", "Pi", "Pd"}  # Unicode's categories of marks that belong to what follows
_OPENING_MARKS = "¿¡"
_QUOTES = "\"'"  # open after a space only


@dataclass(frozen=True)
class Span:
    """A word or a part of one: its text, and its tokens from `start` to before `end`.

    `spoken` is the range of those that are not punctuation around the word.
    """

    text: str
    start: int
    end: int
    spoken: tuple[int, int]


def split(tokenizer: Tokenizer, tokens: Sequence[int], language: str) -> list[Span]:
    """Group the tokens of a text into words; joined they are the text."""
    words: list[Span] = []
    for part in _characters(tokenizer, tokens):
        broken = bool(words and part.text) and words[-1].text.endswith(_BREAKS)
        _add(words, part, apart=broken or _begins_word(part.text, language))
    # A second pass: a mark that stands alone belongs to the word before it, or after it.
    merged: list[Span] = []
    for word in words:
        after_mark = bool(merged) and _is_silent(merged[-1].text)
        closing = _is_silent(word.text) and (word is words[-1] or not _is_opening(word.text))
        _add(merged, word, apart=not (after_mark or closing))
    return merged


def _characters(tokenizer: Tokenizer, tokens: Sequence[int]) -> Iterator[Span]:
    """Yield the shortest runs of tokens that hold whole characters; broken bytes are U+FFFD."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text, start = "", 0
    for end, token in enumerate(tokens, start=1):
        text += decoder.decode(tokenizer.piece(token), final=end == len(tokens))
        if not decoder.getstate()[0]:
            yield Span(text, start, end, (start, end))
            text, start = "", end


def _add(words: list[Span], span: Span, apart: bool) -> None:
    """Append a span as a word of its own, or to the last word."""
    if apart or not words:
        words.append(span)
        return
    both = (words[-1], span)
    spoken = [part.spoken for part in both if not _is_silent(part.text)]
    bounds = [bound for pair in spoken or [part.spoken for part in both] for bound in pair]
    words[-1] = Span(both[0].text + span.text, both[0].start, span.end, (bounds[0], bounds[-1]))


def _begins_word(text: str, language: str) -> bool:
    if language in UNSPACED:
        return text != "" and unicodedata.category(text[0])[0] != "M"  # vowels over consonants
    return text[:1].isspace()


def _is_silent(text: str) -> bool:
    """Tell whether nothing but punctuation and spaces is in the text."""
    return all(unicodedata.category(c)[0] in "PZ" and c not in _SPOKEN for c in text)


def _is_opening(text: str) -> bool:
    """Tell whether punctuation belongs to the word after it."""
    if not (mark := text.strip()[-1:]):
        return False
    if mark in _QUOTES:
        return text[0].isspace()
    return mark in _OPENING_MARKS or unicodedata.category(mark) in _OPENING
