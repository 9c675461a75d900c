"""Segments that nobody spoke, by made-up words."""

from __future__ import annotations

import pytest

from edgewhisper_runtime.decode.hallucination import hallucinated
from edgewhisper_runtime.transcript import Word


def spoken(start: float, end: float, probability: float = 0.9) -> list[Word]:
    middle = (start + end) / 2
    return [Word(start, middle, " yes", probability), Word(middle, end, " sir.", probability)]


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([spoken(5, 6, 0.1)], [True]),  # improbable, and alone
        ([spoken(5, 6)], [False]),  # alone, and probable
        ([spoken(4, 5), spoken(5.2, 6, 0.1)], [False, False]),  # improbable, right after speech
        ([spoken(1, 2), spoken(12, 13, 0.1), spoken(24, 25)], [False, True, False]),
        ([spoken(1, 2), spoken(12, 13, 0.1), spoken(14, 15)], [False, False, False]),
        ([spoken(10, 10.02)], [True]),  # two words in 0.02 s
        ([[]], [False]),
    ],
)
def test_what_is_left_out(groups: list[list[Word]], expected: list[bool]) -> None:
    assert hallucinated(groups, 30.0, 2.0) == expected
