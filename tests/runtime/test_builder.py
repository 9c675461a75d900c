"""A recording's segments and whose words are whose."""

from __future__ import annotations

from edgewhisper_runtime.builder import assign_words
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
