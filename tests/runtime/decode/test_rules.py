"""Whisper's rules for the next token, on a small vocabulary."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgewhisper_runtime.decode.rules import TokenRules

TEXT = 20  # ids below are text, then come the end, others, "no timestamps" and 100 timestamps
END, NO_TIMESTAMPS, FIRST = 20, 25, 26
VOCABULARY = FIRST + 100
RULES = TokenRules((3, 4), (5, END), END, 200, FIRST)


def allowed(text: list[int], logits: np.ndarray) -> set[int]:
    logits = logits.astype(np.float32)[None].copy()
    RULES.apply(logits, [text])
    return set(np.flatnonzero(np.isfinite(logits[0])).tolist())


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10))
def test_every_text_that_the_rules_allow_is_well_formed(seed: int, spread: float) -> None:
    random = np.random.default_rng(seed)
    text: list[int] = []
    for _ in range(60):
        logits = random.normal(size=VOCABULARY) * spread
        options = allowed(text, logits)
        assert options
        assert not options & {3, 4, NO_TIMESTAMPS}
        token = max(options, key=lambda one: logits[one])
        if token == END:
            break
        text.append(token)
    times = [token for token in text if token >= FIRST]
    assert text[0] >= FIRST
    assert text[0] - FIRST <= 50
    assert times == sorted(times)
    marks = "".join("t" if token >= FIRST else "w" for token in text)
    assert "ttt" not in marks
    assert not marks.startswith("tt")
    for start, end in zip(times[::2], times[1::2], strict=False):
        assert start < end


def test_a_timestamp_is_due_where_all_together_are_likelier_than_any_word() -> None:
    logits = np.zeros(VOCABULARY)
    logits[7] = 4.0  # against 100 timestamps, e^4 = 55 is not enough
    assert min(allowed([FIRST, 6], logits)) >= FIRST
    logits[7] = 5.0
    assert 7 in allowed([FIRST, 6], logits)


def test_without_timestamps_only_suppression_rules() -> None:
    plain = TokenRules((3, 4), (5, END), END, 200)
    logits = np.zeros((2, VOCABULARY), np.float32)
    plain.apply(logits, [[], [7]])
    assert set(np.flatnonzero(np.isinf(logits[0]))) == {3, 4, 5, END}
    assert set(np.flatnonzero(np.isinf(logits[1]))) == {3, 4}


def test_repeated_tokens_are_less_likely_by_the_penalty() -> None:
    rules = TokenRules((), (), END, 200, FIRST, repetition_penalty=2.0)
    logits = np.full((1, VOCABULARY), 1.0, np.float32)
    logits[0, 8] = -1.0
    logits[0, FIRST:] = -9.0
    rules.apply(logits, [[FIRST, 7, 8, 7]])
    assert logits[0, 7] == 0.5
    assert logits[0, 8] == -2.0
    assert logits[0, 9] == 1.0


@given(st.lists(st.integers(6, 9), max_size=40), st.integers(1, 4))
def test_no_phrase_comes_twice(words: list[int], n: int) -> None:
    rules = TokenRules((), (), END, 200, no_repeat_ngram=n)
    text: list[int] = []
    for word in words:
        logits = np.zeros((1, VOCABULARY), np.float32)
        rules.apply(logits, [text])
        seen = {tuple(text[i : i + n]) for i in range(len(text) - n + 1)}
        for token in range(TEXT):
            repeats = len(text) >= n - 1 and (*text[len(text) - n + 1 :], token) in seen
            assert np.isinf(logits[0, token]) == repeats
        if np.isfinite(logits[0, word]):
            text.append(word)
