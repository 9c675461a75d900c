"""Render a sweep's results as the study's table and as Pareto plots."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from edgewhisper import quantizers
from edgewhisper.quantizers.census import summarize
from edgewhisper.recipes import Recipe
from edgewhisper.reports.results import BASELINE, FailedRow, SweepResult, SweepRow
from edgewhisper_runtime.bundle import atomic
from edgewhisper_runtime.measure.figures import undisturbed

RESULTS, TABLE, PLOT = "results.json", "table.md", "pareto.svg"
_UNKNOWN = "#555555"  # of a library that is not installed here
Measure = Callable[[SweepResult, str], float | None]
_FRAME = 8.0  # points above the baseline that the plot shows


def read_sweep(directory: Path) -> SweepResult | None:
    """Return the results in a sweep's directory, None if it has none.

    Raises DataError when results.json is something else.
    """
    path = directory / RESULTS
    return SweepResult.read(path) if path.exists() else None


def write_sweep(result: SweepResult, directory: Path) -> None:
    """Write results.json, table.md and pareto.svg into the directory."""
    content = json.dumps(result.to_json(), ensure_ascii=False, separators=(",", ":"))
    atomic.write_text(directory / RESULTS, content + "\n")
    atomic.write_text(directory / TABLE, to_table(result) + "\n")
    atomic.write_text(directory / PLOT, to_plot(result))


def to_table(result: SweepResult, names: Collection[str] | None = None) -> str:
    """Return a Markdown table, one line for each recipe, by library, and a note on its data.

    With `names`, only these recipes.
    """
    splits = list(result.utterances)
    heads = [f"WER % {split}" for split in splits]
    columns = ["recipe", "scheme", "scope", "MB", *heads, "gate", "RTF", "peak RSS, MB"]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for name, row in sorted(result.rows.items(), key=lambda item: _order(item[1].recipe)):
        if names is not None and name not in names:
            continue
        if isinstance(row, FailedRow):
            reason = row.error.replace("|", "\\|")
            cells = [name, row.recipe.scheme, f"failed: {reason}", *[""] * (len(columns) - 3)]
        else:
            cells = _cells(result, name, row)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", _footer(result)])


def _cells(result: SweepResult, name: str, row: SweepRow) -> list[str]:
    """Return the cells of a recipe that was measured."""
    scheme: str = row.recipe.scheme
    if row.calibration is not None:
        scheme += f", {len(row.calibration.utterances)} of {row.recipe.calibration.split}"
    size = f"{row.weight_bytes / 1e6:.1f}"
    if row is not result.baseline:
        size += f" ({100 * (row.weight_bytes / result.baseline.weight_bytes - 1):+.1f} %)"
    verdict = "baseline" if row.gate is None else row.gate.verdict
    wers = [_wer(row, split, len(of_split)) for split, of_split in result.utterances.items()]
    return [name, scheme, summarize(row.census), size, *wers, verdict, *_speed(result, name)]


def to_plot(result: SweepResult) -> str:
    """Return an SVG: WER of each split against size and against RTF, the Pareto front drawn in."""
    import io

    from matplotlib import rc_context
    from matplotlib.figure import Figure

    splits = list(result.utterances)
    measures = {"weights, MB": _megabytes, "real-time factor": SweepResult.rtf}
    if result.rtf("fp32") is None:  # nothing was timed
        measures.pop("real-time factor")
    with rc_context({"svg.hashsalt": "edgewhisper", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(5.2 * len(splits), 3.9 * len(measures)), layout="constrained")
        grid = figure.subplots(len(measures), len(splits), squeeze=False)
        for axes_of, (label, measure) in zip(grid, measures.items(), strict=True):
            for axes, split in zip(axes_of, splits, strict=True):
                _draw(axes, result, split, label, measure)
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=7, frameon=False)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def pareto(points: dict[str, tuple[float, float]]) -> list[str]:
    """Return the names of the points (cost, WER) on the Pareto front, by cost."""
    front: list[str] = []
    for name in sorted(points, key=lambda name: points[name]):
        if not front or points[name][1] < points[front[-1]][1]:
            front.append(name)
    return front


def _draw(axes: Any, result: SweepResult, split: str, label: str, measure: Measure) -> None:
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
    axes.axhline(baseline, color="black", lw=0.8, ls=":", label="fp32")
    front = pareto(points)
    drawn = [points[name] for name in front]
    axes.step(*zip(*drawn, strict=True), where="post", color="#888888", lw=1, label="Pareto front")
    for number, name in enumerate(front):
        away = (4, 5 if number % 2 else -10)
        axes.annotate(name, points[name], xytext=away, textcoords="offset points", fontsize=6)
    axes.set(xlabel=label, ylabel=f"WER % {split}")
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
        text += f", given up after {summary.utterances} utterances"
    return text


def _speed(result: SweepResult, name: str) -> list[str]:
    factor, rss = result.rtf(name), result.peak_rss_bytes(name)
    unknown = "machine busy" if result.runs(name) else ""
    return [
        unknown if factor is None else f"{factor:.3f}",
        "" if rss is None else f"{rss / 1e6:.0f}",
    ]


def _megabytes(result: SweepResult, name: str) -> float:
    return result.measured[name].weight_bytes / 1e6


def _footer(result: SweepResult) -> str:
    data = ", ".join(
        f"{len(utterances)} utterances of {split}"
        for split, utterances in result.utterances.items()
    )
    text = (
        f"{result.model.name} on {result.dataset.name}: {data}. In brackets: the difference from "
        "fp32 in points, with its paired 95 % interval (over utterances and over speakers, the "
        "wider at each end). The gate judges all splits together."
    )
    timed = result.speed
    if timed is not None and any(timed.runs.values()):
        disturbed = sum(run.disturbed for runs in timed.runs.values() for run in runs)
        rounds = max((len(undisturbed(runs)) for runs in timed.runs.values()), default=0)
        text += (
            f" RTF and peak RSS: medians of up to {rounds} fresh processes each, taken in turns, "
            f"on {len(timed.files)} of the utterances; {timed.machine.cpu} "
            f"({', '.join(timed.machine.isa)}), {timed.threads} threads."
        )
        if disturbed:
            text += f" {disturbed} runs while the machine was busy with other work do not count."
    return f"{text}\n\nWritten by `{result.command}`."
