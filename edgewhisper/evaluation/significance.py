"""Bootstrap intervals over utterances (Bisani and Ney 2004, "Bootstrap estimates for confidence
intervals in ASR performance evaluation").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
_CHUNK = 250
_SEED = 0
_LEVEL = 95.0
_RULE_OF_THREE = 3


@dataclass(frozen=True)
class Interval:
    """A 95 % percentile interval, in percentage points of WER."""

    low: float
    high: float


def bootstrap(errors: NDArray[np.int64], words: NDArray[np.int64]) -> Interval:
    """Return the interval of 100 * sum(errors) / sum(words) when utterances [n] are resampled.

    Deterministic. Where every utterance has zero, resampling can only give zero again; see
    `_reach`.
    """
    if not errors.any():
        return Interval(-_reach(words), _reach(words))
    generator = np.random.default_rng(_SEED)
    rates = np.empty(RESAMPLES)
    for start in range(0, RESAMPLES, _CHUNK):
        picked = generator.integers(0, len(errors), (_CHUNK, len(errors)))
        rates[start : start + _CHUNK] = 100 * errors[picked].sum(1) / words[picked].sum(1)
    tail = (100 - _LEVEL) / 2
    low, high = np.percentile(rates, [tail, 100 - tail])
    return Interval(float(low), float(high))


def paired_bootstrap(differences: NDArray[np.int64], words: NDArray[np.int64]) -> Interval:
    """Return the interval of two systems' WER difference, by each utterance's difference in errors.

    Where no utterance became worse, or none better, it reaches further on that side: see `_reach`.
    """
    found = bootstrap(differences, words)
    if not differences.any():
        return found
    return Interval(
        found.low - (0.0 if (differences < 0).any() else _reach(words)),
        found.high + (0.0 if (differences > 0).any() else _reach(words)),
    )


def _reach(words: NDArray[np.int64]) -> float:
    """Return how much further, in points, an interval reaches than resampling shows.

    One word error in 3 of n utterances: the 95 % bound for what was never seen (Hanley and
    Lippman-Hand 1983, "If nothing goes wrong, is everything all right?").
    """
    return float(100 * _RULE_OF_THREE / words.sum())
