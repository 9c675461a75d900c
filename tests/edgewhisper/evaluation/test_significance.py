"""The bootstrap covers what it should, and is honest where it has nothing to resample."""

from __future__ import annotations

import numpy as np
import pytest

from edgewhisper.evaluation.significance import (
    bootstrap,
    paired_block_bootstrap,
    paired_bootstrap,
)


def test_the_interval_is_that_of_theory_for_many_utterances() -> None:
    generator = np.random.default_rng(1)
    words = np.full(2000, 20)
    errors = generator.binomial(20, 0.1, 2000)
    interval = bootstrap(errors, words)
    half_width = 1.96 * 100 * errors.std() / 20 / np.sqrt(2000)
    assert interval.high - interval.low == pytest.approx(2 * half_width, rel=0.05)


def test_coverage_is_near_95_percent() -> None:
    generator = np.random.default_rng(2)
    covered = 0
    for _ in range(60):
        difference = generator.binomial(20, 0.11, 150) - generator.binomial(20, 0.10, 150)
        interval = bootstrap(difference, np.full(150, 20))
        covered += interval.low <= 1.0 <= interval.high
    assert 51 <= covered <= 60


def test_deterministic() -> None:
    errors, words = np.array([1, 0, 3, 0, 2]), np.array([10, 8, 12, 9, 11])
    assert bootstrap(errors, words) == bootstrap(errors, words)


def test_no_difference_in_few_utterances_proves_little() -> None:
    few = bootstrap(np.zeros(8, int), np.full(8, 20))
    many = bootstrap(np.zeros(2000, int), np.full(2000, 20))
    assert few.high == pytest.approx(100 * 3 / 160)
    assert many.high == pytest.approx(100 * 3 / 40_000)
    assert few.low == -few.high


def test_one_better_utterance_proves_no_more_than_none() -> None:
    """That no utterance became worse is as little of a proof beside one that became better."""
    words = np.full(8, 10)
    equal = paired_bootstrap(np.zeros(8, int), words)
    better = paired_bootstrap(np.array([0, 0, 0, -1, 0, 0, 0, 0]), words)
    assert equal == bootstrap(np.zeros(8, int), words)
    assert better.high >= equal.high == pytest.approx(3.75)
    assert better.low < 0
    worse = paired_bootstrap(np.array([0, 0, 0, 1, 0, 0, 0, 0]), words)
    assert (worse.low, worse.high) == (-better.high, -better.low)
    both = np.array([1, 0, 0, -1, 0, 0, 0, 0])
    assert paired_bootstrap(both, words) == bootstrap(both, words)


def test_errors_that_go_together_make_a_block_interval_wider() -> None:
    """As theory has it: with whole speakers alike, a block counts as one observation."""
    by_speaker = np.array([-2, 0, 1, 3, 0, 2, -1, 1])
    differences, words = np.repeat(by_speaker, 50), np.full(400, 20)
    speakers = [str(number // 50) for number in range(400)]
    blocks = paired_block_bootstrap(differences, words, speakers)
    alone = paired_block_bootstrap(differences, words, [f"{n:03}" for n in range(400)])
    assert alone == paired_bootstrap(differences, words)
    ratio = (blocks.high - blocks.low) / (alone.high - alone.low)
    assert ratio == pytest.approx(50**0.5, rel=0.15)
