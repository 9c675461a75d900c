"""The gate: is the variant's error rate above the baseline's by at most what the recipe allows?"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from edgewhisper.evaluation.comparison import (
    Comparison,
    Records,
    Share,
    compare,
    p_value,
    utterances_needed,
)
from edgewhisper.evaluation.wer import Record
from edgewhisper_runtime.bundle import Verdict
from edgewhisper_runtime.bundle.fields import between
from edgewhisper_runtime.errors import GateFailedError, GateNotProvenError

NOT_JUDGED = (
    "the synthetic smoke set is spoken by machines: how well a model does on it does not tell how "
    "well it does on people. Evaluate on LibriSpeech (`edgewhisper data librispeech`)."
)


@dataclass(frozen=True)
class PartVerdict:
    """The gate's verdict on one split or language, and the comparison that it judges.

    `utterances_needed`: about how many would settle it. `comparison` is None in files of earlier
    versions.
    """

    verdict: Verdict
    utterances_needed: int | None = None
    comparison: Comparison | None = None


@dataclass(frozen=True)
class GateVerdict:
    """The gate on all splits together, on each split, and on each language if there are several.

    `max_wer_increase` is the limit in points of the comparison's metric. `overall` compares over
    all splits; it is None in files of earlier versions. `p_value` is the one-sided p-value of "the
    increase is above the limit", for corrections of many comparisons. `reason` is why nothing was
    judged.
    """

    verdict: Verdict
    max_wer_increase: Annotated[float, between(0, 1e6)]
    splits: dict[str, PartVerdict]
    overall: Comparison | None = None
    utterances_needed: int | None = None
    reason: str = ""
    languages: dict[str, PartVerdict] = field(default_factory=dict)
    p_value: Share | None = None

    @property
    def parts(self) -> dict[str, PartVerdict]:
        """The verdicts on splits and on languages."""
        return self.splits | self.languages


def judge(
    baseline: Records, variant: Records, limit: float, *, synthetic: bool = False
) -> GateVerdict:
    """Judge a variant's records, by split, against the baseline's of the same utterances.

    With d = variant rate - baseline rate and its paired 95 % interval (see `compare`): passed where
    the upper end is at or below the limit, in points; failed where the lower end is above it; not
    proven in between. This is the verdict on all splits together, but it is "failed" if one split
    or one language fails. Synthetic speech is not judged.
    """
    overall = compare(baseline, variant)
    if synthetic:
        splits = {split: PartVerdict("not judged") for split in baseline}
        return GateVerdict("not judged", limit, splits, overall, reason=NOT_JUDGED)
    splits = {
        split: _judge({split: records}, {split: variant[split]}, limit)
        for split, records in baseline.items()
    }
    languages = sorted({record.language for records in baseline.values() for record in records})
    by_language = {
        language: _judge(_of(baseline, language), _of(variant, language), limit)
        for language in (languages if len(languages) > 1 else [])
    }
    together = _judge(baseline, variant, limit)
    parts = [*splits.values(), *by_language.values()]
    failed = any(part.verdict == "failed" for part in parts)
    return GateVerdict(
        "failed" if failed else together.verdict,
        limit,
        splits,
        overall,
        utterances_needed=None if failed else together.utterances_needed,
        languages=by_language,
        p_value=p_value(baseline, variant, limit),
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
    the whole, a split or a language has not passed. `report` is the directory that has the details.
    """
    details = "" if report is None else f" No bundle was installed; see {report / 'report.md'}."
    if gate.verdict == "failed":
        raise GateFailedError(
            f"{explain(gate)}{details} Quantize less (scope, bits), or allow more "
            "(max_wer_increase)."
        )
    doubtful = [name for name, part in gate.parts.items() if part.verdict == "not proven"]
    if strict and gate.verdict == "passed" and doubtful:
        raise GateNotProvenError(
            f"the gate passed, but {_doubt(gate, doubtful)}{details} (--strict)"
        )
    if strict and gate.verdict != "passed":
        raise GateNotProvenError(f"{explain(gate)}{details} (--strict)")
    if gate.verdict == "passed":
        return None
    above = gate.overall is not None and gate.overall.d > gate.max_wer_increase
    if gate.verdict == "not proven" and above and not accept_not_proven:
        raise GateNotProvenError(
            f"{explain(gate)}{details} Evaluate more, or accept it as it is with "
            "--accept-not-proven."
        )
    return explain(gate)


def explain(gate: GateVerdict) -> str:
    """Return what was shown, or how far the measured value lies and what would settle it."""
    if gate.verdict == "not judged":
        return f"the gate judged nothing: {gate.reason}"
    limit = f"the limit of {gate.max_wer_increase:g} points"
    if gate.verdict == "passed":
        return f"the gate passed: {_measured(gate.overall)}, shown to be within {limit}."
    if gate.verdict == "not proven":
        whole = PartVerdict(gate.verdict, gate.utterances_needed, gate.overall)
        return (
            f"the gate could not prove the increase to be within {limit}: {_distance(whole, gate)}"
        )
    shown = [_measured(gate.overall)]
    if gate.overall is not None and gate.overall.interval.low <= gate.max_wer_increase:
        shown = [
            f"on {name} {_measured(part.comparison)}"
            for name, part in gate.parts.items()
            if part.verdict == "failed"
        ]
    return f"the gate failed: {'; '.join(shown)}, shown to be above {limit}."


def _of(splits: Records, language: str) -> dict[str, list[Record]]:
    """Return the records in one language."""
    return {
        split: [record for record in records if record.language == language]
        for split, records in splits.items()
    }


def _judge(baseline: Records, variant: Records, limit: float) -> PartVerdict:
    comparison = compare(baseline, variant)
    if comparison.interval.high <= limit:
        return PartVerdict("passed", comparison=comparison)
    if comparison.interval.low > limit:
        return PartVerdict("failed", comparison=comparison)
    needed = utterances_needed(baseline, variant, limit)
    return PartVerdict("not proven", needed, comparison)


def _measured(comparison: Comparison | None) -> str:
    """Return a measured difference and its interval, in words."""
    if comparison is None:
        return "the error rate rose"
    interval = comparison.interval
    return (
        f"{comparison.metric} changed by {comparison.d:+.2f} points ({interval.low:+.2f} to "
        f"{interval.high:+.2f} at 95 %)"
    )


def _distance(part: PartVerdict, gate: GateVerdict) -> str:
    """Return how far a measured value lies from the limit, and what would settle it."""
    words = _measured(part.comparison)
    if part.comparison is not None:
        distance = part.comparison.d - gate.max_wer_increase
        where = "above" if distance > 0 else "below"
        words += f", measured {abs(distance):.2f} points {where} the limit"
    needed = part.utterances_needed
    amount = "No amount of data" if needed is None else f"About {needed} utterances"
    if needed is not None and part.comparison is not None and part.comparison.over_speakers:
        speakers = math.ceil(part.comparison.speakers * needed / part.comparison.utterances)
        amount += f" of {speakers} speakers"
    return f"{words}. {amount} would settle it if the difference stays."


def _doubt(gate: GateVerdict, names: list[str]) -> str:
    """Return what was not proven on parts of the data."""
    return " ".join(f"not on {name}: {_distance(gate.parts[name], gate)}" for name in names)
