"""A recording's segments, whose words are whose, and which words are in two windows."""

from __future__ import annotations

import pytest

from edgewhisper_runtime.builder import assign_words, repeated_words
from edgewhisper_runtime.transcript import Word


def shares(words: list[str], texts: list[str]) -> list[list[str]]:
    assert "".join(words) == "".join(texts)
    spoken = [Word(0.0, 0.0, word, 1.0) for word in words]
    return [[word.text for word in own] for own in assign_words(spoken, list(map(len, texts)))]


def test_each_segment_has_its_words() -> None:
    words = [" Hello", " there.", " Bye", " now."]
    assert shares(words, [" Hello there.", " Bye now."]) == [words[:2], words[2:]]
    assert shares([], ["", ""]) == [[], []]


def test_a_word_across_two_segments_leaves_the_others_where_they_are() -> None:
    words = [" ... Hello", " there.", " Bye", " now."]
    texts = [" ...", " Hello there.", " Bye now."]
    assert shares(words, texts) == [[" ... Hello"], [" there."], [" Bye", " now."]]


@pytest.mark.parametrize(
    ("before", "after", "count"),
    [
        (["the", "room,"], ["Room", "is"], 1),
        (["in", "the", "room"], ["In", "the", "room", "is"], 3),
        (["the", "room"], ["the", "rooms"], 0),
        (["में"], ["मैं", "हूँ"], 0),  # "in" and "I", which differ in their vowel sign only
        (["में।"], ["में", "हूँ"], 1),
        (["ที่"], ["ที"], 0),
        (["كَتَبَ"], ["كُتُب"], 0),
        ([], ["the"], 0),
    ],
)
def test_words_that_are_in_both_windows_are_repeated(
    before: list[str], after: list[str], count: int
) -> None:
    assert repeated_words(before, after) == count
