"""Loops told from speech."""

from __future__ import annotations

import pytest

from edgewhisper_runtime.decode import repetition


@pytest.mark.parametrize(
    ("tokens", "looping", "suspect"),
    [
        ([5] * 12, True, True),
        ([9, 8, 7, 6] * 3, True, True),
        ([1, 2] + [9, 8, 7] * 4, True, True),
        ([5, 5, 5], False, False),
        ([9, 8, 7, 6] * 2, False, False),
        ([9, 8, 7, 6, 5, 4] * 2, False, True),
        (list(range(20)), False, False),
        ([], False, False),
    ],
)
def test_tokens_that_repeat(tokens: list[int], looping: bool, suspect: bool) -> None:
    assert repetition.is_looping(tokens) is looping
    assert repetition.is_suspect(tokens) is suspect
    assert not repetition.is_hopeless(tokens)


def test_tokens_that_go_on_for_ever() -> None:
    assert repetition.is_hopeless([1, 2, *([9, 8, 7] * 22)])
    assert not repetition.is_hopeless([*([9, 8, 7] * 22), 1])


def test_text_that_repeats() -> None:
    assert repetition.compression_ratio("again and " * 40) > repetition.MAX_RATIO
    plain = "A plain sentence that says every thing once."
    assert 0 < repetition.compression_ratio(plain) < 1.5
    assert repetition.compression_ratio("") == 0
