"""A sweep in noise: WER against the ratio of speech to noise, as a plot."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgewhisper.evaluation.conditions import CLEAN, Condition
from edgewhisper.recipes import BASELINE
from edgewhisper.reports.plots import INK, to_svg
from edgewhisper.reports.results import SweepResult
from edgewhisper_runtime.bundle import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = tuple[tuple[float, str], ...]  # ratios in dB, and the name of the split at each
_SPREAD = 0.3  # of the step between two ratios: the intervals of recipes stand side by side
_STYLES, _COLORS = ("-", "--", ":"), 10


def curves(result: SweepResult) -> dict[str, Curve]:
    """Return, by title, what was evaluated at two or more ratios and in nothing else differs."""
    groups: dict[str, list[tuple[float, str]]] = {}
    for name, each in result.conditions.items():
        if each.condition.noise is not None:
            title = f"{each.split}, {_without_ratio(each.condition)}"
            groups.setdefault(title, []).append((each.condition.noise.snr, name))
    return {title: tuple(sorted(points)) for title, points in groups.items() if len(points) > 1}


def metric(result: SweepResult, curve: Curve) -> Metric:
    """Return the metric of the speech of a curve."""
    return result.baseline.summary[curve[0][1]].metric


def to_plot(result: SweepResult) -> str:
    """Return an SVG: WER against the ratio of speech to noise, and its difference from fp32.

    Two plots side by side for each of `curves`, a line for each recipe that has not collapsed.
    Where the split was evaluated clean too, that is to the right of the highest ratio.
    """
    found = curves(result)

    def draw(figure: Figure) -> None:
        grid = figure.subplots(len(found), 2, squeeze=False)
        for (absolute, difference), (title, curve) in zip(grid, found.items(), strict=True):
            draw_wer(absolute, result, curve)
            draw_difference(difference, result, curve)
            absolute.set_ylabel(f"{metric(result, curve)} % {title}")
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False)

    return to_svg(draw, 10.4, 3.9 * len(found) + 0.5)


def draw_wer(axes: Axes, result: SweepResult, curve: Curve) -> None:
    """Draw the WER of each recipe at each ratio, and on clean speech."""
    names, ratios = _along(axes, result, curve)
    for recipe, line in _lines(result).items():
        wers = [result.measured[recipe].summary[name].wer for name in names]
        axes.plot(ratios, wers, **line, label=recipe)
    axes.set_ylabel(f"{metric(result, curve)} %")


def draw_difference(axes: Axes, result: SweepResult, curve: Curve) -> None:
    """Draw the difference of each recipe from fp32, with its intervals side by side."""
    names, ratios = _along(axes, result, curve)
    lines = _lines(result)
    shift = _SPREAD * (ratios[1] - ratios[0]) / len(lines)
    for number, (recipe, line) in enumerate(lines.items()):
        comparison = result.measured[recipe].comparison
        if comparison is None:
            continue
        compared = [comparison[name] for name in names]
        reach = [
            [max(0.0, each.d - each.interval.low) for each in compared],
            [max(0.0, each.interval.high - each.d) for each in compared],
        ]
        places = [ratio + shift * (number - len(lines) / 2) for ratio in ratios]
        axes.errorbar(places, [each.d for each in compared], reach, **line, label=recipe)
    axes.axhline(0, color=INK, lw=0.8, ls=":")
    axes.set_ylabel("difference from fp32, points (95 %)")


def _along(axes: Axes, result: SweepResult, curve: Curve) -> tuple[list[str], list[float]]:
    """Return the splits of a curve and where they stand on its axis, clean speech last."""
    ratios, names = [ratio for ratio, _ in curve], [name for _, name in curve]
    ticks = [f"{ratio:g}" for ratio in ratios]
    split = result.conditions[names[0]].split
    if split in result.conditions:
        ratios.append(2 * ratios[-1] - ratios[-2])
        names.append(split)
        ticks.append("clean")
    axes.set_xlabel("speech to noise, dB")
    axes.set_xticks(ratios, ticks)
    axes.grid(alpha=0.25)
    return names, ratios


def _lines(result: SweepResult) -> dict[str, dict[str, Any]]:
    """Return how each recipe's line is drawn."""
    recipes = [name for name, row in result.measured.items() if not row.collapsed]
    return {
        recipe: {
            "color": INK if recipe == BASELINE else f"C{number % _COLORS}",
            "ls": _STYLES[number // _COLORS % len(_STYLES)],
            "marker": ".",
            "lw": 1,
        }
        for number, recipe in enumerate(recipes)
    }


def _without_ratio(condition: Condition) -> str:
    """Return the name of a condition, less the ratio of speech to noise."""
    others = replace(condition, noise=None)
    names = [condition.noise.recording if condition.noise else ""]
    return ", ".join(names if others == CLEAN else [*names, others.label])
