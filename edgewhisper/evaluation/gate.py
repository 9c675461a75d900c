"""The gate: is the variant's WER increase at most what the recipe allows, beyond chance?"""

from __future__ import annotations

import math
from typing import Any, Literal

Verdict = Literal["passed", "failed", "not proven"]


def judge(comparisons: dict[str, dict[str, Any]], limit: float) -> dict[str, Any]:
    """Judge each split's comparison (see `wer.compare`) and the build as a whole.

    passed: the upper end of the 95 % interval is at or below the limit (in WER points).
    failed: the measured increase is above it. not proven: in between; then
    `utterances_needed` says how many would narrow the interval enough if d stayed as it is.
    The whole is failed if any split is, and passed if all are.
    """
    splits = {name: _judge_split(found, limit) for name, found in comparisons.items()}
    verdicts = {split["verdict"] for split in splits.values()}
    overall: Verdict = "passed"
    if "failed" in verdicts:
        overall = "failed"
    elif "not proven" in verdicts:
        overall = "not proven"
    return {"verdict": overall, "max_wer_increase": limit, "splits": splits}


def _judge_split(comparison: dict[str, Any], limit: float) -> dict[str, Any]:
    d, high = comparison["d"], comparison["interval"]["high"]
    if d > limit:
        return {"verdict": "failed", "utterances_needed": None}
    if high <= limit:
        return {"verdict": "passed", "utterances_needed": None}
    if comparison["share_not_worse"] == 1:  # the rule of three, which shrinks with the number
        needed = math.ceil(comparison["utterances"] * high / limit) if limit else None
        return {"verdict": "not proven", "utterances_needed": needed}
    # The interval's half-width shrinks with the square root of the number of utterances.
    room = limit - d
    needed = None if room <= 0 else math.ceil(comparison["utterances"] * ((high - d) / room) ** 2)
    return {"verdict": "not proven", "utterances_needed": needed}
