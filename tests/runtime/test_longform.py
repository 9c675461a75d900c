"""Windows of long audio: nothing lost, nothing said twice."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewhisper_runtime.longform import Reader, spans, windows

RATE = 16_000


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 40 * RATE), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_windows_joined_are_the_audio(lengths: list[int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    blocks = [generator.normal(0, 0.1, length).astype(np.float32) for length in lengths]
    found = list(windows(iter(blocks)))
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate(blocks))
    assert all(0 < len(window) <= 30 * RATE for window in found)


def test_what_fits_is_not_cut() -> None:
    assert [len(w) for w in windows([np.ones(30 * RATE, np.float32)])] == [30 * RATE]


def test_the_cut_is_in_the_pause() -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 50 * RATE).astype(np.float32)
    pause = slice(int(24.0 * RATE), int(24.5 * RATE))
    samples[pause] = 0
    first, second = windows([samples])
    assert pause.start < len(first) < pause.stop
    assert len(first) + len(second) == len(samples)


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
    found, seconds = spans(tokens, FIRST, 30.0, whole)
    assert [(span.start, span.end, span.tokens) for span in found] == expected
    assert seconds == done
    for span in found:
        assert tokens[span.at : span.at + len(span.tokens)] == span.tokens


def test_no_piece_reaches_beyond_a_short_window() -> None:
    found, seconds = spans([at(0), 1, at(2), at(2), 2, at(9)], FIRST, 4.5, whole=False)
    assert [(span.start, span.end) for span in found] == [(0, 2), (2, 4.5)]
    assert seconds == 4.5


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 400_000), max_size=8), st.randoms())
def test_a_reader_s_windows_are_the_stream(lengths: list[int], random: Random) -> None:
    stream = np.arange(sum(lengths), dtype=np.float32)
    bounds = np.cumsum([0, *lengths])
    reader = Reader(stream[a:b] for a, b in pairwise(bounds))
    start = 0
    while True:
        window = reader.window(start)
        np.testing.assert_array_equal(window, stream[start : start + len(window)])
        assert len(window) == min(480_000, len(stream) - start)
        if not len(window):
            break
        start += random.randint(1, len(window))
