"""Intervals of error rates and of their differences, over utterances or over speakers.

The estimate is a ratio, 100 * sum(errors) / sum(units), of sums over clusters: utterances, or all
that a speaker says. Its standard error is that of the jackknife that leaves out one cluster at a
time, its quantiles those of Student's t with one degree of freedom less than there are clusters
(MacKinnon, Nielsen and Webb 2023, "Cluster-robust inference: A guide to empirical practice",
Journal of Econometrics 232; Efron and Tibshirani 1993, "An introduction to the bootstrap", chapter
11). With few speakers it holds its level better than the percentile bootstrap (Bisani and Ney 2004)
and the blockwise one (Liu and Peng 2019), see docs/results/coverage.md.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgewhisper_runtime.bundle import Interval

Level = Literal["utterances", "speakers"]

TAIL = 0.025  # on each side of the 95 % interval
_UNKNOWN = 100.0  # points: how far an interval reaches that has nothing to be computed from
_TINY = 1e-12
_DIGITS = 6  # so that other versions of libraries compute the same figures


@dataclass(frozen=True)
class Estimate:
    """An error rate, or a difference of two, in points, and how well `clusters` tell it.

    `rising` and `falling` are the points that one unseen error in all the data is worth where no
    cluster has a positive, or negative, value: one log(1 / tail) of it is added to that end of the
    interval. For a tail of 5 % that is the rule of three (Hanley and Lippman-Hand 1983, "If nothing
    goes wrong, is everything all right?"). Clusters that are all alike show no spread at all, so
    there both ends get it.
    """

    rate: float
    standard_error: float
    clusters: int
    rising: float
    falling: float

    def interval(self, tail: float = TAIL) -> Interval:
        """Return the interval that leaves out `tail` at each end, to a millionth of a point."""
        return Interval(round(self._low(tail), _DIGITS), round(self._high(tail), _DIGITS))

    def needed(self, limit: float) -> float | None:
        """Return how many times as much data would put the 95 % interval on one side of a limit.

        If the rate stays: with m times the data the standard error shrinks by the square root of m,
        what one unseen error is worth by m. None where the rate is at the limit.
        """
        distance = abs(limit - self.rate)
        spread = self._half_width(TAIL)
        unseen = (self.rising if self.rate < limit else self.falling) * math.log(1 / TAIL)
        if not distance:
            return None
        # spread * x + unseen * x**2 = distance, where x = 1 / sqrt(m), and unseen may be 0
        x = 2 * distance / (spread + math.sqrt(spread**2 + 4 * unseen * distance))
        return x**-2

    def p_value(self, limit: float) -> float:
        """Return the one-sided p-value of "the true rate is above the limit".

        It is the tail at which the interval's upper end is at the limit, so it is at most `TAIL`
        where the 95 % interval ends at or below the limit.
        """
        from scipy.optimize import brentq

        if self._high(_TINY) <= limit:
            return 0.0
        if self._high(1 - _TINY) > limit:
            return 1.0
        p = brentq(lambda tail: self._high(tail) - limit, _TINY, 1 - _TINY)
        return round(float(p), _DIGITS)

    def _high(self, tail: float) -> float:
        return self.rate + self._half_width(tail) + self.rising * math.log(1 / tail)

    def _low(self, tail: float) -> float:
        return self.rate - self._half_width(tail) - self.falling * math.log(1 / tail)

    def _half_width(self, tail: float) -> float:
        from scipy.stats import t

        if self.clusters == 1:
            return _UNKNOWN
        if not self.standard_error:
            return 0.0
        return float(self.standard_error * t.isf(tail, self.clusters - 1))


def estimate(
    errors: NDArray[np.int64],
    units: NDArray[np.int64],
    clusters: Sequence[Hashable] | None = None,
    repeats: float = 1.0,
) -> Estimate:
    """Return 100 * sum(errors) / sum(units) of texts [n], and how well it is known.

    `errors` are those of one system, or the differences between two. `clusters` names the cluster
    of each text, such as its speaker; None: each is one of its own. `repeats` is how many texts an
    utterance has on average: what goes wrong in one may go wrong in all of them.
    """
    clusters = range(len(errors)) if clusters is None else clusters
    numbers = {cluster: number for number, cluster in enumerate(dict.fromkeys(clusters))}
    index = [numbers[cluster] for cluster in clusters]
    sums = np.zeros((2, len(numbers)), dtype=np.int64)
    np.add.at(sums[0], index, errors)
    np.add.at(sums[1], index, units)
    errors, units = sums
    count, total, size = len(errors), errors.sum(), units.sum()
    alike = np.array_equal(errors * size, units * total)
    standard_error = 0.0
    if not alike:
        without = 100 * (total - errors) / (size - units)
        standard_error = math.sqrt(
            (count - 1) / count * ((without - 100 * total / size) ** 2).sum()
        )
    one_error = 100 * repeats / size
    return Estimate(
        rate=float(100 * total / size),
        standard_error=standard_error,
        clusters=count,
        rising=0.0 if (errors > 0).any() and not alike else float(one_error),
        falling=0.0 if (errors < 0).any() and not alike else float(one_error),
    )


def estimates(
    errors: NDArray[np.int64],
    units: NDArray[np.int64],
    speakers: Sequence[str],
    utterances: Sequence[Hashable] | None = None,
) -> dict[Level, Estimate]:
    """Return the estimate over utterances, and over speakers where any is known.

    `utterances` names the utterance of each text: one that was decoded in several conditions has
    several texts, which go together; None: each text is of its own. An utterance whose speaker is
    not known, "", counts as a speaker's of its own. What one speaker says tells nothing of others,
    so there is no estimate over one.
    """
    utterances = range(len(errors)) if utterances is None else utterances
    repeats = len(utterances) / len(set(utterances))
    found: dict[Level, Estimate] = {"utterances": estimate(errors, units, utterances, repeats)}
    by_speaker = [
        (speaker, None if speaker else utterance)
        for speaker, utterance in zip(speakers, utterances, strict=True)
    ]
    if any(speakers) and len(set(by_speaker)) > 1:
        found["speakers"] = estimate(errors, units, by_speaker, repeats)
    return found


def widest(intervals: Sequence[Interval]) -> Interval:
    """Return the interval that at each end is the wider of several."""
    return Interval(min(i.low for i in intervals), max(i.high for i in intervals))


def holm(p_values: Mapping[str, float], tail: float = TAIL) -> set[str]:
    """Return the names whose hypothesis is rejected with all of them considered.

    The chance that any of them is rejected wrongly is at most `tail`, however they depend on each
    other: the i-th smallest p-value of n is compared with tail / (n - i + 1), up to the first that
    is above it (Holm 1979, "A simple sequentially rejective multiple test procedure").
    """
    rejected: set[str] = set()
    for left, name in zip(
        range(len(p_values), 0, -1), sorted(p_values, key=lambda name: p_values[name]), strict=True
    ):
        if p_values[name] > tail / left:
            break
        rejected.add(name)
    return rejected
