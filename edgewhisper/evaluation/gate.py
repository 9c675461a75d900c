"""The gate: is the variant's WER increase at most what the recipe allows, beyond chance?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from edgewhisper.evaluation.wer import Comparison, Record, compare
from edgewhisper_runtime.bundle import Verdict
from edgewhisper_runtime.bundle.fields import between
from edgewhisper_runtime.errors import GateFailedError, GateNotProvenError

NOT_JUDGED = (
    "the synthetic smoke set is spoken by machines: how well a model does on it does not tell how "
    "well it does on people. Evaluate on LibriSpeech (`edgewhisper data librispeech`)."
)


@dataclass(frozen=True)
class SplitVerdict:
    """The gate's verdict on one split; `utterances_needed`: about how many would settle it."""

    verdict: Verdict
    utterances_needed: int | None = None


@dataclass(frozen=True)
class GateVerdict:
    """The gate on all splits together, and on each.

    `max_wer_increase` is the limit in percentage points. `overall` compares over all splits; it
    is None in files of earlier versions. `reason` is why nothing was judged.
    """

    verdict: Verdict
    max_wer_increase: Annotated[float, between(0, 1e6)]
    splits: dict[str, SplitVerdict]
    overall: Comparison | None = None
    utterances_needed: int | None = None
    reason: str = ""


def judge(
    baseline: Mapping[str, Sequence[Record]],
    variant: Mapping[str, Sequence[Record]],
    limit: float,
    *,
    synthetic: bool = False,
) -> GateVerdict:
    """Judge a variant's records, by split, against the baseline's of the same utterances.

    With d = variant WER - baseline WER and its paired 95 % interval (see `compare`):
    passed where the upper end is at or below the limit, in WER points; failed where the lower end
    is above it; not proven in between. This is the verdict on all splits together, but it is
    "failed" if one split fails. Synthetic speech is not judged.
    """
    overall = compare(baseline, variant)
    if synthetic:
        splits = dict.fromkeys(baseline, SplitVerdict("not judged"))
        return GateVerdict("not judged", limit, splits, overall, reason=NOT_JUDGED)
    splits = {
        split: _judge(compare({split: records}, {split: variant[split]}), limit)
        for split, records in baseline.items()
    }
    together = _judge(overall, limit)
    if any(split.verdict == "failed" for split in splits.values()):
        together = SplitVerdict("failed")
    return GateVerdict(
        together.verdict, limit, splits, overall, utterances_needed=together.utterances_needed
    )


def enforce(
    gate: GateVerdict,
    report: Path | None = None,
    *,
    strict: bool = False,
    accept_not_proven: bool = False,
) -> str | None:
    """Raise where a variant must not be installed; return a warning where it is not proven.

    Raises GateFailedError where the gate failed; GateNotProvenError where it is not proven and
    the measured difference is above the limit, unless `accept_not_proven`; with `strict` wherever
    the whole or a split has not passed. `report` is the directory that has the details.
    """
    if gate.verdict == "failed":
        raise GateFailedError(
            f"the gate failed: {_measured(gate)}, shown to be above the limit of "
            f"{gate.max_wer_increase:g}{_of_splits(gate, 'failed')}.{_details(report)} Quantize "
            "less (scope, bits), or allow more (max_wer_increase)."
        )
    if strict and (gate.verdict != "passed" or _splits(gate, "not proven")):
        raise GateNotProvenError(f"{_doubt(gate)}{_details(report)} (--strict)")
    if gate.verdict == "not judged":
        return f"the gate judged nothing: {gate.reason}"
    if gate.verdict == "passed":
        return None
    above = 0.0 if gate.overall is None else gate.overall.d - gate.max_wer_increase
    if above > 0 and not accept_not_proven:
        raise GateNotProvenError(
            f"{_doubt(gate)} The measured value is {above:.2f} points above the limit."
            f"{_details(report)} Evaluate more, or accept it as it is with --accept-not-proven."
        )
    return _doubt(gate)


def _judge(comparison: Comparison, limit: float) -> SplitVerdict:
    d, low, high = comparison.d, comparison.interval.low, comparison.interval.high
    if high <= limit:
        return SplitVerdict("passed")
    if low > limit:
        return SplitVerdict("failed")
    if comparison.share_not_worse == 1:  # the rule of three, which shrinks with the number
        needed = math.ceil(comparison.utterances * high / limit) if limit else None
        return SplitVerdict("not proven", needed)
    # The interval's half-width shrinks with the square root of the number of utterances.
    distance = abs(limit - d)
    half_width = high - d if d < limit else d - low
    needed = math.ceil(comparison.utterances * (half_width / distance) ** 2) if distance else None
    return SplitVerdict("not proven", needed)


def _measured(gate: GateVerdict) -> str:
    """Return the measured difference and its interval, in words."""
    if gate.overall is None:
        return "WER rose"
    interval = gate.overall.interval
    return (
        f"WER changed by {gate.overall.d:+.2f} points ({interval.low:+.2f} to "
        f"{interval.high:+.2f} at 95 %)"
    )


def _doubt(gate: GateVerdict) -> str:
    """Return what was not proven, how far it is, and what would settle it."""
    if gate.verdict == "not judged":
        return f"the gate judged nothing: {gate.reason}"
    needed = gate.utterances_needed
    if gate.verdict == "passed":
        needed = max((gate.splits[split].utterances_needed or 0) for split in gate.splits) or None
    amount = "No amount of data" if needed is None else f"About {needed} utterances"
    return (
        f"the gate could not prove that WER rises by at most {gate.max_wer_increase:g} points"
        f"{_of_splits(gate, 'not proven')}: {_measured(gate)}. {amount} would settle it if the "
        "difference stays."
    )


def _details(report: Path | None) -> str:
    """Return where the report is of a bundle that is not installed."""
    return "" if report is None else f" No bundle was installed; see {report / 'report.md'}."


def _splits(gate: GateVerdict, verdict: Verdict) -> list[str]:
    return [name for name, split in gate.splits.items() if split.verdict == verdict]


def _of_splits(gate: GateVerdict, verdict: Verdict) -> str:
    names = _splits(gate, verdict)
    return f" on {', '.join(names)}" if names else ""
