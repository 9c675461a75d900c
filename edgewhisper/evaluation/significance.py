"""Bootstrap intervals of word error rates (Bisani and Ney 2004, "Bootstrap estimates for confidence
intervals in ASR performance evaluation"), over utterances or over blocks of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgewhisper_runtime.bundle import Interval

RESAMPLES = 10_000
_CHUNK = 250
_SEED = 0
_LEVEL = 95.0
_RULE_OF_THREE = 3


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
    interval = bootstrap(differences, words)
    if not differences.any():
        return interval
    return Interval(
        interval.low - (0.0 if (differences < 0).any() else _reach(words)),
        interval.high + (0.0 if (differences > 0).any() else _reach(words)),
    )


def paired_block_bootstrap(
    differences: NDArray[np.int64], words: NDArray[np.int64], blocks: Sequence[str]
) -> Interval:
    """Return the same interval when whole blocks are resampled, such as all that a speaker says.

    `blocks` names the block of each utterance. The errors of one speaker go together, which makes
    an interval over utterances too narrow (Liu and Peng 2019, "Statistical testing on ASR
    performance via blockwise bootstrap", arXiv 1912.09508).
    """
    names, index = np.unique(np.array(blocks), return_inverse=True)
    sums = np.zeros((2, len(names)), dtype=np.int64)
    np.add.at(sums[0], index, differences)
    np.add.at(sums[1], index, words)
    return paired_bootstrap(*sums)


def _reach(words: NDArray[np.int64]) -> float:
    """Return how much further, in points, an interval reaches than resampling shows.

    One word error in 3 of n utterances: the 95 % bound for what was never seen (Hanley and
    Lippman-Hand 1983, "If nothing goes wrong, is everything all right?").
    """
    return float(100 * _RULE_OF_THREE / words.sum())
