"""Render a sweep's results as the study's table and as Pareto plots."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from edgewhisper import quantizers
from edgewhisper.evaluation.conditions import CLEAN
from edgewhisper.evaluation.significance import TAIL
from edgewhisper.quantizers.census import summarize
from edgewhisper.recipes import BASELINE, Recipe
from edgewhisper.reports import markdown
from edgewhisper.reports.plots import INK, name_points, to_svg
from edgewhisper.reports.results import FailedRow, SweepResult, SweepRow
from edgewhisper.reports.wording import both_intervals, left_out
from edgewhisper_runtime.errors import amount
from edgewhisper_runtime.measure.figures import undisturbed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_UNKNOWN = "#555555"  # of a library that is not installed here
BUSY = "machine busy"  # the real-time factor of a recipe whose every run was disturbed
Measure = Callable[[SweepResult, str], float | None]
_FRAME = 8.0  # points above the baseline that the plot shows


def to_table(result: SweepResult, shown: Collection[str] | None = None) -> str:
    """Return a Markdown table, one line for each recipe, by library, and a note on its data.

    Where speech was evaluated in conditions, WER has a table for each split instead, a column for
    each condition.

    Args:
        result: A sweep's results.
        shown: Names of the recipes to show; None shows all. The note is of all in any case, as
            how many were compared tells what "passed" is worth.
    """
    clean = [] if result.conditions else list(result.utterances)
    metrics = result.baseline.summary
    heads = [f"{metrics[split].metric} % {split}" for split in clean]
    columns = [
        "recipe", "artefact", "quantization", "scope", "MB", *heads, "all splits, points",
        "gate", "RTF", "peak RSS, MB",
    ]  # fmt: skip
    by_library = sorted(result.rows, key=lambda name: _order(result.rows[name].recipe))
    names = [name for name in by_library if shown is None or name in shown]
    rows = []
    for name in names:
        row = result.rows[name]
        if isinstance(row, FailedRow):
            cells = [name, "", row.recipe.quantization, f"failed: {row.error}"]
            cells += [""] * (len(columns) - len(cells))
        else:
            cells = _cells(result, name, row, clean)
        rows.append(cells)
    splits = dict.fromkeys(each.split for each in result.conditions.values())
    in_conditions = (_by_condition(result, split, names) for split in splits)
    return "\n\n".join([markdown.table(columns, rows), *in_conditions, _footer(result)])


def _by_condition(result: SweepResult, split: str, names: Sequence[str]) -> str:
    """Return a table of WER on a split: recipes by condition."""
    labels = {
        name: each.condition.label
        for name, each in result.conditions.items()
        if each.split == split
    }
    metric = result.baseline.summary[next(iter(labels))].metric
    rows = [
        [recipe, *(_wer(row, name, len(result.utterances[name])) for name in labels)]
        for recipe in names
        if (row := result.measured.get(recipe))
    ]
    return markdown.table([f"{metric} % {split}", *labels.values()], rows)


def _cells(result: SweepResult, name: str, row: SweepRow, splits: Sequence[str]) -> list[str]:
    """Return the cells of a recipe that was measured."""
    quantization = row.recipe.quantization
    if row.calibration is not None:
        quantization += f", {len(row.calibration.utterances)} of {row.recipe.calibration.split}"
    exports = row.recipe.exports
    artefact = f"{exports[0].upper()} export" if exports else "variant"
    size = f"{row.weight_bytes / 1e6:.1f}"
    if row is not result.baseline:
        size += f" ({100 * (row.weight_bytes / result.baseline.weight_bytes - 1):+.1f} %)"
    wers = [_wer(row, split, len(result.utterances[split])) for split in splits]
    overall = None if row.gate is None else row.gate.overall
    difference = "" if overall is None else f"{overall.d:+.2f}: {both_intervals(overall)}"
    return [
        name, artefact, quantization, summarize(row.census), size, *wers, difference,
        verdict(result, name), *_speed(result, name),
    ]  # fmt: skip


def verdict(result: SweepResult, name: str) -> str:
    """Return the gate's verdict on a recipe and its limit; a star where it passes by Holm's too."""
    gate = result.measured[name].gate
    if gate is None:
        return "baseline"
    star = " *" if name in result.passed_by_holm else ""
    limit = "" if gate.verdict == "not judged" else f", limit {gate.max_wer_increase:g}"
    return f"{gate.verdict}{star}{limit}"


def to_plot(result: SweepResult) -> str:
    """Return an SVG: WER of each split against size and against RTF, the Pareto front drawn in."""
    splits, against = plotted(result), measures(result)

    def draw_all(figure: Figure) -> None:
        grid = figure.subplots(len(against), len(splits), squeeze=False)
        for axes_of, (label, measure) in zip(grid, against.items(), strict=True):
            for axes, split in zip(axes_of, splits, strict=True):
                draw(axes, result, split, label, measure)
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=7, frameon=False)

    return to_svg(draw_all, 5.2 * len(splits), 3.9 * len(against))


def plotted(result: SweepResult) -> list[str]:
    """Return the splits of plots against size and speed: of clean speech if there is any."""
    clean = [name for name, each in result.conditions.items() if each.condition == CLEAN]
    return clean or list(result.utterances)


def measures(result: SweepResult) -> dict[str, Measure]:
    """Return what WER is drawn against, by its label."""
    against: dict[str, Measure] = {"weights, MB": _megabytes}
    if result.rtf(BASELINE) is not None:
        against["real-time factor"] = SweepResult.rtf
    return against


def pareto(points: dict[str, tuple[float, float]]) -> list[str]:
    """Return the names of the points (cost, WER) on the Pareto front, by cost."""
    front: list[str] = []
    for name in sorted(points, key=lambda name: points[name]):
        if not front or points[name][1] < points[front[-1]][1]:
            front.append(name)
    return front


def draw(axes: Any, result: SweepResult, split: str, label: str, measure: Measure) -> None:
    """Draw the WER on a split against what `measure` gives of each recipe."""
    baseline = result.baseline.summary[split].wer
    top = baseline + _FRAME
    points: dict[str, tuple[float, float]] = {}
    outside = 0
    for name, row in result.measured.items():
        cost = measure(result, name)
        if cost is None or row.collapsed:
            continue
        wer = row.summary[split].wer
        if wer > top:
            outside += 1
        else:
            points[name] = (cost, wer)
    libraries = {name: result.measured[name].recipe.library for name in points}
    for library in sorted(set(libraries.values())):
        own = [points[name] for name, other in libraries.items() if other == library]
        installed = library in quantizers.names()
        color = quantizers.find(library).color if installed else _UNKNOWN
        axes.scatter(*zip(*own, strict=True), s=18, color=color, label=library, zorder=3)
    axes.axhline(baseline, color=INK, lw=0.8, ls=":", label="fp32")
    front = pareto(points)
    drawn = [points[name] for name in front]
    axes.step(*zip(*drawn, strict=True), where="post", color="#888888", lw=1, label="Pareto front")
    name_points(axes, {name: points[name] for name in front})
    axes.set(xlabel=label, ylabel=f"{result.baseline.summary[split].metric} % {split}")
    axes.set_title(f"{outside} above the frame" if outside else "", fontsize=7, loc="right")
    axes.grid(alpha=0.25)


def _order(recipe: Recipe) -> tuple[bool, bool, str, str]:
    return (recipe.name != BASELINE, recipe.quantizes, recipe.library, recipe.name)


def _wer(row: SweepRow, split: str, of: int) -> str:
    summary = row.summary[split]
    text = f"{summary.wer:.2f}"
    if row.comparison is not None:
        comparison = row.comparison[split]
        interval = comparison.interval
        text += f" ({comparison.d:+.2f}: {interval.low:+.2f} to {interval.high:+.2f})"
    if summary.utterances < of:
        text += f", given up after {amount(summary.utterances, 'utterance')}"
    return text


def _speed(result: SweepResult, name: str) -> list[str]:
    factor, rss = result.rtf(name), result.peak_rss_bytes(name)
    unknown = BUSY if result.runs(name) else ""
    return [
        unknown if factor is None else f"{factor:.3f}",
        "" if rss is None else f"{rss / 1e6:.0f}",
    ]


def _megabytes(result: SweepResult, name: str) -> float:
    return result.measured[name].weight_bytes / 1e6


def _scoring(result: SweepResult) -> str:
    """Return how each language is scored."""
    return " ".join(
        f"{language}: {rule.metric}, {rule.normalizer}." for language, rule in result.rules.items()
    )


def many_comparisons(result: SweepResult) -> str:
    """Return what as many comparisons as this do to "passed"; empty for one."""
    judged = len(result.p_values)
    if judged <= 1:
        return ""
    verdicts = [row.gate.verdict for row in result.measured.values() if row.gate is not None]
    return (
        f"A recipe whose true increase is at the limit passes by chance in {100 * TAIL:g} % of "
        f"all evaluations, so of {judged} up to {judged * TAIL:.1f} may pass that should not. "
        f"{verdicts.count('passed')} passed; {len(result.passed_by_holm)}, marked *, pass with "
        "Holm's correction too: the chance that any of these should not is at most "
        f"{100 * TAIL:g} %."
    )


def _footer(result: SweepResult) -> str:
    sizes = {split: len(utterances) for split, utterances in result.utterances.items()}
    if result.conditions:
        sizes = {each.split: sizes[name] for name, each in result.conditions.items()}
    data = ", ".join(f"{amount(size, 'utterance')} of {split}" for split, size in sizes.items())
    in_all = ", in all conditions" if result.conditions else ""
    note = many_comparisons(result)
    text = (
        f"{result.model.name} on {result.dataset.name}: {data}. In brackets: the difference from "
        "fp32 in points, with its paired 95 % interval (over utterances and over speakers, the "
        f"wider at each end). The gate judges all splits together{in_all}, by the limit of the "
        f"recipe, in points. {_scoring(result)} "
        f"{note}{' ' if note else ''}MB: the weights of the artefact that was measured."
    )
    timed = result.speed
    if timed is not None and any(timed.runs.values()):
        disturbed = sum(run.disturbed for runs in timed.runs.values() for run in runs)
        rounds = max((len(undisturbed(runs)) for runs in timed.runs.values()), default=0)
        runs = "one run each" if rounds == 1 else f"medians of up to {rounds} runs each"
        text += (
            f" RTF and peak RSS: {runs}, in fresh processes, taken in turns, on "
            f"{len(timed.files)} of the utterances; {timed.machine.cpu} "
            f"({', '.join(timed.machine.isa)}), {timed.threads} threads."
        )
        text = f"{text} {left_out(disturbed)}".rstrip()
    return f"{text}\n\nWritten by `{result.command}`."
