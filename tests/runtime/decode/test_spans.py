"""Tokens between timestamps become pieces of text with their times."""

from __future__ import annotations

import pytest

from edgewhisper_runtime.decode.spans import split_at_timestamps

FIRST = 100  # the id that means 0 s; 50 of them are a second


def at(seconds: float) -> int:
    return FIRST + round(seconds * 50)


@pytest.mark.parametrize(
    ("tokens", "whole", "expected", "done"),
    [
        # two sentences and the end of the window
        ([at(0), 1, 2, at(3), at(3), 4, at(8)], False, [(0, 3, [1, 2]), (3, 8, [4])], 30),
        # the last sentence goes on in the next window
        ([at(0), 1, at(3), at(3), 4, 5], False, [(0, 3, [1])], 3),
        ([at(0), 1, at(3), at(3), 4, 5], True, [(0, 3, [1]), (3, 30, [4, 5])], 30),
        # a start without a word behind it
        ([at(0), 1, at(3), at(5)], False, [(0, 3, [1])], 3),
        # one sentence, ended or not
        ([at(1), 1, at(4)], False, [(1, 4, [1])], 30),
        ([at(1), 1, 2], False, [(1, 30, [1, 2])], 30),
        # none at all
        ([1, 2, 3], False, [(0, 30, [1, 2, 3])], 30),
        ([], False, [], 30),
        ([at(0), at(0)], False, [], 30),
    ],
)
def test_tokens_become_pieces_of_text(
    tokens: list[int], whole: bool, expected: list[tuple[float, float, list[int]]], done: float
) -> None:
    found, seconds = split_at_timestamps(tokens, FIRST, 30.0, whole)
    assert [(span.start, span.end, span.tokens) for span in found] == expected
    assert seconds == done
    for span in found:
        assert tokens[span.at : span.at + len(span.tokens)] == span.tokens


def test_no_piece_reaches_beyond_a_short_window() -> None:
    found, seconds = split_at_timestamps(
        [at(0), 1, at(2), at(2), 2, at(9)], FIRST, 4.5, whole=False
    )
    assert [(span.start, span.end) for span in found] == [(0, 2), (2, 4.5)]
    assert seconds == 4.5
