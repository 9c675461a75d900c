"""Two systems compared on the same utterances, paired utterance by utterance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

from edgewhisper.evaluation import normalizing
from edgewhisper.evaluation.significance import Estimate, Level, estimates, widest
from edgewhisper.evaluation.wer import ErrorCounts, Record, count_errors
from edgewhisper_runtime.bundle import Interval, Metric
from edgewhisper_runtime.bundle.fields import Count, between
from edgewhisper_runtime.errors import DataError, amount

Records = Mapping[str, Sequence[Record]]  # by split
Share = Annotated[float, between(0, 1)]
Key = tuple[str, str]  # split and id
_SHOWN = 5  # utterances that a message names


@dataclass(frozen=True)
class Comparison:
    """d = variant error rate - baseline error rate, in points of `metric`, with 95 % intervals.

    `over_utterances` and `over_speakers` are the paired intervals (the second is None where no
    speaker is known or all is of one, and both are in files of earlier versions); `interval` is at
    each end the wider of the two. Shares are of texts: with no more errors than the baseline's, and
    the same. `utterances` counts an utterance once, in however many conditions it was decoded;
    `speakers` are those known, `unknown_speakers` the utterances that name none.
    """

    d: float
    interval: Interval
    difference_shown: bool
    share_not_worse: Share
    share_same_text: Share
    utterances: Count
    over_utterances: Interval | None = None
    over_speakers: Interval | None = None
    speakers: Count = 0
    unknown_speakers: Count = 0
    metric: Metric = "WER"


def compare(baseline: Records, variant: Records) -> Comparison:
    """Compare two evaluations over all splits together.

    Raises DataError unless both hold the same utterances.
    """
    before, after = _paired(baseline, variant)
    counts_before, counts_after = count_errors(before), count_errors(after)
    of_each = _estimates(before, counts_before, counts_after)
    intervals = {level: one.interval() for level, one in of_each.items()}
    interval = widest(list(intervals.values()))
    pairs = list(zip(before, after, counts_before, counts_after, strict=True))
    speakers = {record.utterance: record.speaker for record in before}
    return Comparison(
        d=of_each["utterances"].rate,
        interval=interval,
        difference_shown=not interval.low <= 0 <= interval.high,
        share_not_worse=float(np.mean([a.errors <= b.errors for _, _, b, a in pairs])),
        share_same_text=float(np.mean([b.hypothesis == a.hypothesis for b, a, _, _ in pairs])),
        utterances=len(speakers),
        over_utterances=intervals["utterances"],
        over_speakers=intervals.get("speakers"),
        speakers=len({*speakers.values()} - {""}),
        unknown_speakers=list(speakers.values()).count(""),
        metric=normalizing.metric(record.rule for record in before),
    )


def p_value(baseline: Records, variant: Records, limit: float) -> float:
    """Return the one-sided p-value of "d is above the limit".

    The larger of those over utterances and over speakers, as the wider interval counts. Raises
    DataError as `compare` does.
    """
    before, after = _paired(baseline, variant)
    of_each = _estimates(before, count_errors(before), count_errors(after))
    return max(one.p_value(limit) for one in of_each.values())


def utterances_needed(baseline: Records, variant: Records, limit: float) -> int | None:
    """Return how many utterances would show d to be above or below a limit, if d stays.

    About, and as many as both intervals need. None where d is at the limit. Raises DataError as
    `compare` does.
    """
    before, after = _paired(baseline, variant)
    of_each = _estimates(before, count_errors(before), count_errors(after))
    times = [one.needed(limit) for one in of_each.values()]
    count = len({record.utterance for record in before})
    return max((math.ceil(count * each) for each in times if each is not None), default=None)


def matching(baseline: Records, variant: Records) -> dict[str, list[Record]]:
    """Return the baseline's records, by split, of the utterances that the variant has."""
    done = {split: {record.id for record in records} for split, records in variant.items()}
    return {
        split: [record for record in records if record.id in done[split]]
        for split, records in baseline.items()
    }


def least_difference(baseline: Sequence[Record], so_far: Sequence[Record]) -> float:
    """Return the least d, in points, that a variant can end with after its records so far.

    As if it made no error in all the rest of the baseline's utterances.
    """
    if not so_far:
        return float("-inf")
    whole = ErrorCounts.total(count_errors(baseline))
    variant = ErrorCounts.total(count_errors(so_far))
    return 100 * (variant.errors - whole.errors) / whole.words


def _paired(baseline: Records, variant: Records) -> tuple[list[Record], list[Record]]:
    """Return both systems' records in one order; raise DataError unless they are of the same.

    References are the same where what is scored of them is. A speaker that one system's records
    do not name is taken from the other's.
    """
    before, after = (
        {(split, record.id): record for split, records in of_one.items() for record in records}
        for of_one in (baseline, variant)
    )
    for of_one, ids in ((baseline, before), (variant, after)):
        if sum(map(len, of_one.values())) > len(ids):
            raise DataError("an utterance's id stands twice in the evaluation. Give each its own.")
    if problems := list(_mismatches(before, after)):
        raise DataError(f"{'; '.join(problems)}. Evaluate both on the same utterances.")
    if not before:
        raise DataError("there is no utterance to compare.")
    keys = sorted(before)
    return (
        [replace(before[key], speaker=before[key].speaker or after[key].speaker) for key in keys],
        [after[key] for key in keys],
    )


def _mismatches(before: Mapping[Key, Record], after: Mapping[Key, Record]) -> Iterator[str]:
    """Yield which utterances only one of two systems has, and which are not scored alike."""
    if missing := before.keys() - after.keys():
        yield f"the second has no text of {_names(missing)}"
    if missing := after.keys() - before.keys():
        yield f"the first has no text of {_names(missing)}"
    both = before.keys() & after.keys()
    if others := {key for key in both if _scored_apart(before[key], after[key])}:
        yield f"the normalizers differ of {_names(others)}"
    elif others := {key for key in both if _differ(before[key], after[key])}:
        if languages := {key for key in others if before[key].rule != after[key].rule}:
            yield (
                f"the languages differ of {_names(languages)}; that of transcripts is named with "
                "--language"
            )
        else:
            yield f"the references differ of {_names(others)}"


def _names(keys: Iterable[Key]) -> str:
    """Return the names of some utterances, and how many there are."""
    names = [f"{key} of {split}" if split else key for split, key in sorted(keys)]
    shown = ", ".join(names[:_SHOWN])
    return f"{amount(len(names), 'utterance')} ({shown}{', ...' if len(names) > _SHOWN else ''})"


def _scored_apart(first: Record, second: Record) -> bool:
    return first.normalizer != second.normalizer and first.rule != second.rule


def _differ(first: Record, second: Record) -> bool:
    if first.rule == second.rule and first.reference == second.reference:
        return False
    expected, other = (normalizing.units(r.reference, r.rule) for r in (first, second))
    return expected != other


def _estimates(
    records: Sequence[Record], before: Sequence[ErrorCounts], after: Sequence[ErrorCounts]
) -> dict[Level, Estimate]:
    differences = [b.errors - a.errors for a, b in zip(before, after, strict=True)]
    return estimates(
        np.array(differences),
        np.array([count.words for count in before]),
        [record.speaker for record in records],
        [record.utterance for record in records],
    )
