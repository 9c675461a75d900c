"""The results of `edgewhisper tune`: what became of every recipe, as JSON, table and plot."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from edgewhisper import quantizers, search
from edgewhisper.evaluation.gate import GateVerdict
from edgewhisper.evaluation.significance import TAIL
from edgewhisper.recipes import Recipe
from edgewhisper.reports import markdown, plots
from edgewhisper.reports.matrix import pareto
from edgewhisper.reports.results import Timing
from edgewhisper.search import Search
from edgewhisper_runtime.bundle import (
    AudioContext,
    DatasetRecord,
    Origin,
    atomic,
    decode_json,
    parse,
    to_json,
)
from edgewhisper_runtime.bundle.fields import Count, FreeText
from edgewhisper_runtime.errors import (
    DataError,
    GateFailedError,
    GateNotProvenError,
    RecipeError,
    amount,
)
from edgewhisper_runtime.measure.figures import ProfileRun, counted, undisturbed
from edgewhisper_runtime.measure.machine import Machine

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULTS, TABLE, PLOT = "tune.json", "table.md", "pareto.svg"
Prefer = Literal["speed", "size", "accuracy"]
# What became of a recipe, by how far it came: why it was rejected, or that it was chosen.
Outcome = Literal[
    "not usable", "too large", "failed screening", "too slow", "too much memory", "gate not passed",
    "not done", "not needed", "chosen",
]  # fmt: skip
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


@dataclass(frozen=True)
class Limits:
    """What a bundle must keep to.

    `max_wer_increase` is in points. `max_bytes` is of the exported weights, `max_rss_bytes` of the
    whole process at its peak. None: no limit.
    """

    max_wer_increase: float
    max_bytes: Count | None = None
    max_rtf: float | None = None
    max_rss_bytes: Count | None = None

    def excess(self, rtf: float, rss_bytes: float) -> tuple[Outcome, str] | None:
        """Return what is exceeded, and by what; None for a bundle that keeps to the limits."""
        if self.max_rtf is not None and rtf > self.max_rtf:
            return "too slow", f"real-time factor {rtf:.3f}, more than {self.max_rtf:g}"
        if self.max_rss_bytes is not None and rss_bytes > self.max_rss_bytes:
            largest = megabytes(self.max_rss_bytes)
            return "too much memory", f"peak memory {megabytes(rss_bytes)}, more than {largest}"
        return None

    def __str__(self) -> str:
        words = [f"WER at most {self.max_wer_increase:g} points above fp32's"]
        if self.max_bytes is not None:
            words.append(f"weights at most {megabytes(self.max_bytes)}")
        if self.max_rtf is not None:
            words.append(f"real-time factor at most {self.max_rtf:g}")
        if self.max_rss_bytes is not None:
            words.append(f"peak memory at most {megabytes(self.max_rss_bytes)}")
        return ", ".join(words)


@dataclass(frozen=True)
class Candidate:
    """A recipe: what became of it, why, and its figures as far as they were found.

    `computed_bytes` is computed, `weight_bytes` is the export's, whose `files` are by SHA-256.
    `screening` is the gate on development speech, `gate` on the data, in the `audio_context` that
    the bundle has.
    """

    recipe: Recipe
    outcome: Outcome = "not done"
    reason: str = ""
    computed_bytes: Count | None = None
    weight_bytes: Count | None = None
    files: dict[str, str] = field(default_factory=dict)
    screening: GateVerdict | None = None
    gate: GateVerdict | None = None
    audio_context: AudioContext | None = None


@dataclass(frozen=True)
class TuningResult:
    """The best bundle of a model under limits: what was asked for, and every candidate by name.

    `search` is how one of them was searched, if one was. `screened_on` is how many development
    utterances there were. `speed` has the candidates' timed runs, `settings` those of the
    candidates that passed, as they ship, one for each number of threads.
    """

    created: str
    edgewhisper: str
    command: FreeText
    model: Origin
    dataset: DatasetRecord
    splits: dict[str, Count]
    machine: Machine
    limits: Limits
    prefer: Prefer
    candidates: dict[str, Candidate]
    search: Search | None = None
    screened_on: Count = 0
    speed: Timing | None = None
    settings: tuple[Timing, ...] = ()

    @property
    def chosen(self) -> str | None:
        """The name of the recipe whose bundle was chosen."""
        return next((n for n, c in self.candidates.items() if c.outcome == "chosen"), None)

    def rtf(self, name: str) -> float | None:
        """Return the median real-time factor of a candidate; None where it was not measured.

        Of the runs that count: see `figures.counted`.
        """
        return self._median(self.speed, name, lambda run: run.rtf)

    def peak_rss_bytes(self, name: str) -> float | None:
        """Return the median peak memory of a candidate in bytes; None without a measurement."""
        return self._median(self.speed, name, lambda run: run.peak_rss_bytes)

    def by_threads(self, name: str) -> dict[int, tuple[float, float]]:
        """Return real-time factor and peak memory as a candidate ships, by number of threads."""
        figures = {
            timing.threads: (
                self._median(timing, name, lambda run: run.rtf),
                self._median(timing, name, lambda run: run.peak_rss_bytes),
            )
            for timing in self.settings
        }
        return {
            threads: (rtf, rss)
            for threads, (rtf, rss) in figures.items()
            if rtf is not None and rss is not None
        }

    def _median(
        self, timing: Timing | None, name: str, figure: Callable[[ProfileRun], float]
    ) -> float | None:
        """Return the median of a candidate's runs, without those of an earlier export."""
        if timing is None or timing.weights.get(name) != self.candidates[name].files:
            return None
        runs = timing.runs[name]
        return statistics.median(map(figure, counted(runs))) if runs else None

    @classmethod
    def read(cls, directory: Path) -> TuningResult | None:
        """Return the results in a directory, None if it has none; raise DataError for others."""
        path = directory / RESULTS
        if not path.exists():
            return None
        try:
            return parse(cls, decode_json(path.read_bytes()), ignore_unknown=True)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path} does not hold the results of tuning ({error}). Name another directory "
                "with --output."
            ) from error

    def to_json(self) -> dict[str, Any]:
        """Return the content of tune.json."""
        content: dict[str, Any] = to_json(self)
        return content

    def write(self, directory: Path) -> None:
        """Write tune.json and table.md."""
        content = json.dumps(self.to_json(), ensure_ascii=False, indent=1)
        atomic.write_text(directory / RESULTS, content + "\n")
        atomic.write_text(directory / TABLE, to_table(self) + "\n")


def enforce(result: TuningResult, output: Path) -> None:
    """Raise the error of the candidate that came closest, unless one was chosen.

    GateFailedError or GateNotProvenError where the gate refused it, else RecipeError.
    """
    if result.chosen is not None:
        return
    name, closest = max(result.candidates.items(), key=lambda item: _closeness(result, *item))
    message = (
        f"no recipe was found within the limits ({result.limits}). {name} came closest: "
        f"{closest.reason}. No bundle was installed; {output / TABLE} has all recipes. Loosen a "
        "limit, or name other recipes."
    )
    if closest.outcome not in {"failed screening", "gate not passed"}:
        raise RecipeError(message)
    if closest.gate is not None and closest.gate.verdict == "not proven":
        raise GateNotProvenError(message)
    raise GateFailedError(message)


def to_table(result: TuningResult) -> str:
    """Return a Markdown table, one line for each recipe, the furthest first, and notes below it."""
    columns = ["recipe", "MB", "RTF", "peak RSS, MB", "points from fp32", "outcome", "why"]
    ordered = sorted(result.candidates.items(), key=lambda item: -OUTCOMES.index(item[1].outcome))
    rows = [
        (
            name, _size(candidate), _number(result.rtf(name), ".3f"),
            _number(result.peak_rss_bytes(name), ".0f", 1e-6), _difference(candidate),
            candidate.outcome, candidate.reason,
        )
        for name, candidate in ordered
    ]  # fmt: skip
    return "\n\n".join([markdown.table(columns, rows), *_notes(result)])


def to_plot(result: TuningResult) -> str:
    """Return an SVG: the difference from fp32 against size and against real-time factor.

    Full dots with their intervals are of the data, hollow ones of the screening. Limits are dashed.
    """
    limits = result.limits
    sizes = {name: c.weight_bytes / 1e6 for name, c in result.candidates.items() if c.weight_bytes}
    factors = {n: rtf for n in result.candidates if (rtf := result.rtf(n)) is not None}
    measures = {
        "weights, MB": (sizes, limits.max_bytes and limits.max_bytes / 1e6),
        "real-time factor": (factors, limits.max_rtf),
    }

    def draw(figure: Figure) -> None:
        grid = figure.subplots(1, len(measures))
        for axes, (label, (costs, limit)) in zip(grid, measures.items(), strict=True):
            _draw(axes, result, costs)
            axes.axhline(limits.max_wer_increase, color=plots.LIMIT, lw=0.8, ls="--")
            if limit is not None:
                axes.axvline(limit, color=plots.LIMIT, lw=0.8, ls="--")
            axes.set(xlabel=label, ylabel="points from fp32")
            axes.grid(alpha=0.25)

    return plots.to_svg(draw, 10.4, 3.9)


def megabytes(size: float) -> str:
    """Return a size in megabytes of 1,000,000 bytes."""
    return f"{size / 1e6:.4g} MB"


def _closeness(result: TuningResult, name: str, candidate: Candidate) -> tuple[int, float]:
    """Return how far a candidate came, then how little it missed the limit there."""
    verdict = candidate.gate or candidate.screening
    increase = None if verdict is None or verdict.overall is None else verdict.overall.interval.high
    missed: dict[Outcome, float | None] = {
        "too large": candidate.weight_bytes or candidate.computed_bytes,
        "failed screening": increase,
        "too slow": result.rtf(name),
        "too much memory": result.peak_rss_bytes(name),
        "gate not passed": increase,
    }
    return OUTCOMES.index(candidate.outcome), -(missed.get(candidate.outcome) or 0.0)


def _draw(axes: Any, result: TuningResult, costs: dict[str, float]) -> None:
    """Draw candidates by what they cost, and the Pareto front of those that were evaluated."""
    points: dict[str, tuple[float, float]] = {}
    for name, cost in costs.items():
        candidate = result.candidates[name]
        verdict = candidate.gate or candidate.screening
        if verdict is None or verdict.overall is None:
            continue
        d, interval = verdict.overall.d, verdict.overall.interval
        library = candidate.recipe.library
        color = quantizers.find(library).color if library in quantizers.names() else "#555555"
        points[name] = (cost, d)
        if candidate.gate is not None:
            axes.vlines(cost, interval.low, interval.high, color=color, lw=0.8)
        face = color if candidate.gate is not None else "none"
        axes.scatter(cost, d, s=18, facecolors=face, edgecolors=color, zorder=3)
    plots.name_points(axes, points)
    if evaluated := {n: at for n, at in points.items() if result.candidates[n].gate is not None}:
        front = [evaluated[name] for name in pareto(evaluated)]
        axes.step(*zip(*front, strict=True), where="post", color="#888888", lw=1)


def _size(candidate: Candidate) -> str:
    if candidate.weight_bytes is not None:
        return f"{candidate.weight_bytes / 1e6:.1f}"
    if candidate.computed_bytes is not None:
        return f"{candidate.computed_bytes / 1e6:.1f} computed"
    return ""


def _difference(candidate: Candidate) -> str:
    verdict = candidate.gate or candidate.screening
    if verdict is None or verdict.overall is None:
        return ""
    overall = verdict.overall
    text = f"{overall.d:+.2f} ({overall.interval.low:+.2f} to {overall.interval.high:+.2f})"
    return text if candidate.gate is not None else f"{text}, screening"


def _number(figure: float | None, form: str, factor: float = 1) -> str:
    return "" if figure is None else format(figure * factor, form)


def _notes(result: TuningResult) -> list[str]:
    """Return what was asked for, what was measured, and how the chosen bundle is run best."""
    data = ", ".join(
        f"{amount(count, 'utterance')} of {split}" for split, count in result.splits.items()
    )
    asked = (
        f"{result.model.name} on {result.dataset.name}: {data}. Limits: {result.limits}; "
        f"{result.prefer} preferred. Differences are in points, with their paired 95 % intervals"
    )
    asked += f"; screening is on {result.screened_on} development utterances." if (
        result.screened_on
    ) else "; there is no development speech to screen on."  # fmt: skip
    notes = [asked]
    if result.speed is not None:
        machine = result.speed.machine
        notes.append(
            "RTF and peak RSS: medians of fresh processes, measured in turns on "
            f"{len(result.speed.files)} utterances; {machine.cpu} ({', '.join(machine.isa)}), "
            f"{result.speed.threads} threads."
        )
        runs = [run for name in result.candidates for run in result.speed.runs.get(name, ())]
        if disturbed := len(runs) - len(undisturbed(runs)):
            notes.append(
                f"{disturbed} of {len(runs)} runs were made while the machine was busy with other "
                "work; they count only where a recipe has no other. The same command, on a quiet "
                "machine, repeats them."
            )
    evaluated = sum(candidate.gate is not None for candidate in result.candidates.values())
    if evaluated > 1:
        notes.append(
            f"{evaluated} recipes were evaluated on the same data. One whose true increase is at "
            f"the limit passes by chance in {100 * TAIL:g} % of all evaluations."
        )
    if result.chosen and (by_threads := result.by_threads(result.chosen)):
        context = result.candidates[result.chosen].audio_context
        figures = "; ".join(
            f"--threads {threads}: RTF {rtf:.3f}, {megabytes(rss)}"
            for threads, (rtf, rss) in by_threads.items()
        )
        notes.append(f"{result.chosen} as it ships, in {context} audio context: {figures}.")
    notes.append(f"Written by `{result.command}`.")
    if result.search is not None:
        notes += [f"How {result.search.recipe.name} was searched:", search.to_table(result.search)]
        notes.append(search.summary(result.search))
    return notes
