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

    With errors of one system: the interval of its WER. With each utterance's difference of
    two systems' errors: the paired interval of their WER difference. Deterministic.

    Where every utterance has zero, resampling can only give zero again. Then the interval
    reaches one word error in 3 of n utterances, the 95 % bound for what was never seen
    (Hanley and Lippman-Hand 1983, "If nothing goes wrong, is everything all right?").
    """
    if not errors.any():
        reach = float(100 * _RULE_OF_THREE / words.sum())
        return Interval(-reach, reach)
    generator = np.random.default_rng(_SEED)
    rates = np.empty(RESAMPLES)
    for start in range(0, RESAMPLES, _CHUNK):
        picked = generator.integers(0, len(errors), (_CHUNK, len(errors)))
        rates[start : start + _CHUNK] = 100 * errors[picked].sum(1) / words[picked].sum(1)
    tail = (100 - _LEVEL) / 2
    low, high = np.percentile(rates, [tail, 100 - tail])
    return Interval(float(low), float(high))
