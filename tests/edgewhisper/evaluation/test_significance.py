"""Intervals hold what they state, and are honest where there is nothing to compute them from."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from edgewhisper.evaluation.significance import TAIL, estimate, estimates, holm, widest
from edgewhisper_runtime.bundle import Interval


def test_the_interval_is_that_of_theory_for_many_utterances() -> None:
    generator = np.random.default_rng(1)
    words, errors = np.full(2000, 20), generator.binomial(20, 0.1, 2000)
    found = estimate(errors, words)
    half_width = 1.96 * 100 * errors.std() / 20 / np.sqrt(2000)
    assert found.interval().high - found.rate == pytest.approx(half_width, rel=0.01)


def test_it_is_the_t_test_where_utterances_are_equally_long() -> None:
    differences = np.array([3, -1, 0, 2, 4, -2])
    found = estimate(differences, np.full(6, 100))
    half_width = t.ppf(0.975, 5) * differences.std(ddof=1) / np.sqrt(6)
    assert found.rate == 1.0
    assert found.interval().high == pytest.approx(1 + half_width, abs=1e-6)
    assert found.interval().low == pytest.approx(1 - half_width, abs=1e-6)


@pytest.mark.parametrize("speakers", [10, 20, 40])
def test_coverage_with_speaker_effects(speakers: int) -> None:
    """A smaller version of docs/results/coverage.md: rates differ from speaker to speaker."""
    generator = np.random.default_rng(1)
    held, held_by_utterances, repetitions = 0, 0, 1000
    names = [str(number) for number in np.repeat(np.arange(speakers), 8)]
    for _ in range(repetitions):
        words = generator.integers(5, 40, 8 * speakers)
        worse, better = (
            generator.poisson(words * rate * np.repeat(generator.gamma(2, 0.5, speakers), 8))
            for rate in (0.015, 0.01)
        )
        of_each = estimates(worse - better, words, names)
        interval = widest([found.interval() for found in of_each.values()])
        held += interval.low <= 0.5 <= interval.high
        over_utterances = of_each["utterances"].interval()
        held_by_utterances += over_utterances.low <= 0.5 <= over_utterances.high
    assert 0.93 <= held / repetitions <= 0.97
    assert held_by_utterances < held


def test_no_difference_in_few_utterances_proves_little() -> None:
    few = estimate(np.zeros(8, int), np.full(8, 20)).interval()
    many = estimate(np.zeros(2000, int), np.full(2000, 20)).interval()
    assert few.high == pytest.approx(100 * np.log(40) / 160, abs=1e-6)
    assert many.high == pytest.approx(100 * np.log(40) / 40_000, abs=1e-6)
    assert few.low == -few.high


def test_one_better_utterance_proves_no_more_than_none() -> None:
    """That no utterance became worse is as little of a proof beside one that became better."""
    words = np.full(8, 10)
    equal = estimate(np.zeros(8, int), words).interval()
    better = estimate(np.array([0, 0, 0, -1, 0, 0, 0, 0]), words).interval()
    assert better.high >= equal.high > 0 > better.low
    worse = estimate(np.array([0, 0, 0, 1, 0, 0, 0, 0]), words).interval()
    assert (worse.low, worse.high) == (-better.high, -better.low)


def test_alike_is_not_certain() -> None:
    """Utterances or speakers that all got worse alike show no spread; the interval has a width."""
    interval = estimate(np.array([1, 2]), np.array([10, 20])).interval()
    assert interval.low < 10 < interval.high
    by_speaker = estimate(np.array([2, 0, 0, 2]), np.full(4, 10), ["a", "a", "b", "b"]).interval()
    assert by_speaker.low < 10 < by_speaker.high


def test_one_utterance_tells_nothing() -> None:
    found = estimate(np.array([0]), np.array([12]))
    assert found.interval().high > 100 > -100 > found.interval().low
    assert found.p_value(50.0) == 1.0


def test_one_speaker_tells_nothing_of_others() -> None:
    differences, words = np.array([1, 0, -1, 2]), np.full(4, 10)
    assert estimates(differences, words, ["a"] * 4).keys() == {"utterances"}
    both = estimates(differences, words, ["a", "b", "a", "b"])
    assert both.keys() == {"utterances", "speakers"}
    # Two speakers have one degree of freedom: the quantile is 12.7.
    assert both["speakers"].interval().high - both["speakers"].rate == pytest.approx(
        t.ppf(0.975, 1) * both["speakers"].standard_error, abs=1e-5
    )


def test_an_unknown_speaker_is_one_of_its_own() -> None:
    """One that is not named does not hide what is known of the others."""
    generator = np.random.default_rng(1)
    words, names = np.full(60, 10), [str(number) for number in np.repeat(np.arange(6), 10)]
    differences = np.repeat([0, 1, 0, 2, 0, 1], 10) + generator.integers(0, 2, 60)
    widths = []
    for speakers in (names, ["", *names[1:]], ["", *names[1:-1], ""], [""] * 60):
        intervals = {
            level: one.interval() for level, one in estimates(differences, words, speakers).items()
        }
        widths.append(widest(list(intervals.values())))
        assert ("speakers" in intervals) is any(speakers)
    known, one_unknown, two_unknown, none_known = (each.high - each.low for each in widths)
    assert one_unknown == pytest.approx(known, rel=0.3)
    assert two_unknown > 1.5 * none_known
    mixed = estimates(differences, words, ["a"] * 59 + [""])["speakers"]
    assert mixed.clusters == 2


def test_an_utterance_in_several_conditions_is_one_utterance() -> None:
    """The same texts once more, or a thousand times more, prove nothing more."""
    generator = np.random.default_rng(2)
    for differences in (generator.integers(-1, 2, 40), np.zeros(40, int)):
        words, names = generator.integers(5, 30, 40), [str(number % 8) for number in range(40)]
        once = estimates(differences, words, names)
        often = estimates(
            np.tile(differences, 21), np.tile(words, 21), names * 21, list(range(40)) * 21
        )
        assert often.keys() == once.keys()
        for level, one in once.items():
            assert often[level].interval() == one.interval()
            assert often[level].p_value(5.0) == one.p_value(5.0)


@pytest.mark.parametrize(
    "differences", [[3, -1, 0, 2, 4, -2], [0] * 6, [-1, 0, 0, -1, 0, 0], [1, 1, 1, 1, 1, 1]]
)
@pytest.mark.parametrize("distance", [-0.3, 0.3])
def test_so_much_more_of_the_same_settles_it(differences: list[int], distance: float) -> None:
    found = estimate(np.array(differences), np.full(6, 10))
    limit = found.rate + distance
    times = found.needed(limit)
    assert times is not None
    # the quantiles of Student's t shrink with the data too
    for count, settled in ((round(0.3 * times), False), (round(1.1 * times), True)):
        interval = estimate(np.tile(differences, count), np.full(6 * count, 10)).interval()
        assert (not interval.low <= limit <= interval.high) is settled
    assert found.needed(found.rate) is None


def test_errors_that_go_together_make_an_interval_over_speakers_wider() -> None:
    """As theory has it: with whole speakers alike, a speaker counts as one observation."""
    by_speaker = np.array([-2, 0, 1, 3, 0, 2, -1, 1])
    differences, words = np.repeat(by_speaker, 50), np.full(400, 20)
    of_both = estimates(differences, words, [str(number // 50) for number in range(400)])
    errors = {level: found.standard_error for level, found in of_both.items()}
    assert errors["speakers"] / errors["utterances"] == pytest.approx(
        (50 * 399 / 400 * 8 / 7) ** 0.5
    )


def test_widest_takes_each_end() -> None:
    assert widest([Interval(-1, 2), Interval(-3, 1)]) == Interval(-3, 2)


@pytest.mark.parametrize(
    "differences", [[3, -1, 0, 2, 4, -2], [0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 2, 0]]
)
def test_the_p_value_is_the_tail_that_reaches_the_limit(differences: list[int]) -> None:
    found = estimate(np.array(differences), np.full(6, 10))
    for tail in (0.001, TAIL, 0.3):
        assert found.p_value(found.interval(tail).high) == pytest.approx(tail, abs=1e-4)
    assert found.p_value(1000.0) < 1e-5
    assert found.p_value(-1000.0) > 0.99


def test_holm_by_hand() -> None:
    """The example: 0.01 <= 0.05/4, 0.013 <= 0.05/3, 0.04 > 0.05/2, so the last two stand."""
    p_values = {"a": 0.01, "b": 0.04, "c": 0.013, "d": 0.045}
    assert holm(p_values, tail=0.05) == {"a", "c"}
    assert holm({"a": 0.03}, tail=0.05) == {"a"}
    assert holm({}) == set()
