"""Figures as text: units, signs, spreads, the same on every page."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from edgewhisper.evaluation.comparison import Comparison
from edgewhisper.evaluation.gate import GateVerdict
from edgewhisper.reports.results import Report
from edgewhisper.reports.view import Tone
from edgewhisper_runtime.bundle import CensusRow, Interval, Metric, Verdict
from edgewhisper_runtime.errors import amount
from edgewhisper_runtime.measure.machine import Machine

TONES: dict[Verdict, Tone] = {
    "passed": "good",
    "failed": "bad",
    "not proven": "open",
    "not judged": "open",
}
SYNTHETIC = (
    "Measured on the synthetic smoke set: it shows that the pipeline works, not how well the model "
    "does on people."
)
RATES: dict[Metric, str] = {
    "WER": "word error rate",
    "CER": "character error rate",
    "MER": "mixed error rate",
}
_SAME = 0.005  # of a whole: less is no change
_AS_FAST = 0.05  # from times that differ by so much no difference is named
_UNCHANGED = "unchanged"


def megabytes(size: float) -> str:
    """Return bytes in megabytes; less than half a tenth of one in kilobytes."""
    return f"{size / 1e6:.1f} MB" if size >= 50_000 else f"{size / 1e3:.1f} kB"  # noqa: PLR2004 # where 0.1 MB begins


def change(before: float, after: float, less: str, more: str) -> str:
    """Return by how many percent a figure changed, in the words for less and more."""
    share = after / before - 1
    if abs(share) < _SAME:
        return _UNCHANGED
    return f"{abs(100 * share):.0f} % {less if share < 0 else more}"


def faster(before: float, after: float) -> str:
    """Return how fast work is that takes `after` seconds and took `before`."""
    ratio = before / after
    if abs(ratio - 1) < _AS_FAST:
        return "as fast"
    return f"{ratio:.1f} times as fast" if ratio > 1 else f"slower, {ratio:.2f} times as fast"


def sized(before: int, after: int, than: str) -> str:
    """Return how large something is beside what it was made from, `than`: in words for bytes."""
    words = change(before, after, "smaller", "larger")
    return f"as large as {than}" if words == _UNCHANGED else f"{words} than {than}"


def points(number: float) -> str:
    """Return a number of percentage points."""
    return f"{number:g} {'point' if number == 1 else 'points'}"


def signed(interval: Interval) -> str:
    """Return the ends of an interval of a difference."""
    return f"{interval.low:+.2f} to {interval.high:+.2f}"


def unsigned(interval: Interval) -> str:
    """Return the ends of an interval of a rate."""
    return f"{interval.low:.2f} to {interval.high:.2f}"


def difference(comparison: Comparison) -> str:
    """Return a difference in points with its interval."""
    return f"{comparison.d:+.2f} ({signed(comparison.interval)})"


def measured(comparison: Comparison | None) -> str:
    """Return a difference and its interval as the end of a sentence; empty without one."""
    if comparison is None:
        return ""
    return f", measured as {comparison.d:+.2f} (95 % interval {signed(comparison.interval)})"


def both_intervals(comparison: Comparison) -> str:
    """Return the intervals over utterances and over speakers, of which the wider counts."""
    over_utterances = comparison.over_utterances
    text = f"over utterances {'' if over_utterances is None else signed(over_utterances)}"
    if comparison.over_speakers is not None:
        over = f"over {amount(comparison.speakers, 'speaker')}"
        if unknown := comparison.unknown_speakers:
            over += f" (unknown for {amount(unknown, 'utterance')})"
        return f"{text}, {over} {signed(comparison.over_speakers)}"
    known = "one speaker, so of others nothing" if comparison.speakers else "speakers not known"
    return f"{text}, {known}"


def metric(report: Report) -> Metric:
    """Return the metric of all splits together."""
    if report.gate.overall is not None:
        return report.gate.overall.metric
    return next(iter(report.summary.values())).variant.metric


def error_rate(report: Report) -> str:
    """Return the metric of all splits together, spelled out."""
    return RATES[metric(report)]


def spread(values: Sequence[float], form: str = ".3f") -> str:
    """Return the median of several runs, and the lowest and highest."""
    middle = format(statistics.median(values), form)
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):{form}} to {max(values):{form}})"


def left_out(count: int) -> str:
    """Return how many runs of a busy machine do not count, as a sentence; empty for none."""
    runs, verb = ("1 run", "does") if count == 1 else (f"{count} runs", "do")
    return f"{runs} while the machine was busy with other work {verb} not count." if count else ""


def proof(gate: GateVerdict, baseline: str) -> str:
    """Return what the gate says of WER, as the end of a sentence whose subject is the WER."""
    limit = points(gate.max_wer_increase)
    failed = [split for split, of_split in gate.splits.items() if of_split.verdict == "failed"]
    where = f" on {', '.join(failed)}" if failed else ""
    return {
        "passed": f"is proven to be at most {limit} above that of {baseline}",
        "failed": f"is proven to be more than {limit} above that of {baseline}{where}",
        "not proven": f"is not proven to be at most {limit} above that of {baseline}, nor more",
        "not judged": f"could not be judged against that of {baseline}: the speech is synthetic",
    }[gate.verdict]


def part_size(row: CensusRow, census: Sequence[CensusRow]) -> str:
    """Return a part's size, or with which part it shares its weights."""
    if row.bytes:
        return megabytes(row.bytes)
    sharing = {"output": "embedding", "embedding": "output"}.get(row.part)
    stored = [other.part for other in census if other.part == sharing and other.bytes]
    return f"shared with {stored[0]}" if stored else "none"


def describe(host: Machine) -> str:
    """Return the processor, its instruction sets and the system."""
    return f"{host.cpu} ({', '.join(host.isa)}), {host.system}, Python {host.python}"
