"""How every plot is drawn: by matplotlib, as SVG that is the same for the same figures."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# On a page: at least 3 to 1 to a white and to a nearly black ground (WCAG 2.2, 1.4.11).
BASELINE, VARIANT, LIMIT = "#808080", "#2f7fd1", "#d64545"
SERIES = (BASELINE, VARIANT, "#b07d12", "#2e9464", "#a05fc4")
INK = "#010203"  # on a page the colour of its text
_WIDTH = 4.7  # inches; a phone shows it without scrolling
_LINE = 0.27  # inches for each row of a plot
_FRAME = 0.95  # inches for the axis and its label
_LONGEST = 25  # characters of a row's name


def to_svg(draw: Callable[[Figure], object], width: float, height: float) -> str:
    """Return what `draw` draws on an empty figure of so many inches, as SVG with text as text."""
    return _draw(draw, width, height, {"font.size": 8})


def to_inline_svg(draw: Callable[[Figure], object], width: float, height: float) -> str:
    """Return the same as an element of a page: on its ground, in its ink, with ids of its own."""
    ink = dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK
    )
    grounds = dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none")
    spines = {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
    svg = _draw(draw, width, height, ink | grounds | spines | {"font.size": 10})
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    prefix = hashlib.sha256(svg.encode()).hexdigest()[:8]
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>p{prefix}-", svg)
    return re.sub(r'<style type="text/css">.*?</style>| xmlns(:xlink)?="[^"]*"', "", svg).replace(
        "xlink:href", "href"
    )


def _draw(
    draw: Callable[[Figure], object], width: float, height: float, style: dict[str, Any]
) -> str:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    fixed: Any = {"svg.hashsalt": "edgewhisper", "svg.fonttype": "none"}
    # labels are names from the data, in which $ is no formula
    with rc_context(fixed | {"text.parse_math": False} | style):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata=no_metadata)
    return stream.getvalue()


def name_points(axes: Any, points: Mapping[str, tuple[float, float]]) -> None:
    """Write each point's name beside it: few run into each other, none leaves the frame sideways.

    From left to right they are above and below their points in turns, on the side of the middle.
    """
    middle = sum(axes.get_xlim()) / 2
    for number, (name, (x, y)) in enumerate(sorted(points.items(), key=lambda item: item[1])):
        away, side = (4, "left") if x < middle else (-4, "right")
        above = number % 2 == 0
        axes.annotate(
            name, (x, y), xytext=(away, 4 if above else -4), textcoords="offset points",
            ha=side, va="bottom" if above else "top", fontsize=6,
        )  # fmt: skip


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, and the colour to draw them in."""

    label: str
    value: float
    low: float
    high: float
    color: str = VARIANT


def intervals(estimates: Sequence[Estimate], label: str, limit: float | None = None) -> str:
    """Return a plot of differences with their intervals, one below the other, and a line at none.

    With `limit`, a line there too.
    """

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for place, each in enumerate(estimates):
            axes.plot([each.low, each.high], [place, place], color=each.color, lw=3)
            axes.plot(each.value, place, "o", color=each.color, ms=7)
        axes.axvline(0, color=INK, lw=1, ls=":")
        if limit is not None:
            axes.axvline(limit, color=LIMIT, lw=1.5)
            axes.annotate(
                f"limit {limit:+g}", (limit, 1), xycoords=("data", "axes fraction"),
                xytext=(3, 3), textcoords="offset points",
            )  # fmt: skip
        _name_rows(axes, [each.label for each in estimates], label)

    return to_inline_svg(draw, _WIDTH, _FRAME + _LINE * len(estimates))


def pairs(groups: Mapping[str, tuple[float, float]], label: str) -> str:
    """Return a plot of two values for each group, baseline and variant, joined by a line."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        before, after = zip(*groups.values(), strict=True)
        rows = range(len(groups))
        axes.hlines(rows, before, after, color=BASELINE, lw=1.5)
        axes.plot(before, rows, "o", color=BASELINE, ms=7, mfc="none", mew=1.8, label="baseline")
        axes.plot(after, rows, "o", color=VARIANT, ms=6, label="variant")
        axes.set_xlim(left=0)
        _name_rows(axes, list(groups), label)
        figure.legend(loc="outside upper right", ncols=2)

    return to_inline_svg(draw, _WIDTH, _FRAME + 0.35 + _LINE * len(groups))


def bars(groups: Mapping[str, Sequence[float]], series: Sequence[str], label: str) -> str:
    """Return a plot of bars side by side: for each group a value of each series."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        thick = 0.8 / len(series)
        for number, name in enumerate(series):
            places = [row + (number - (len(series) - 1) / 2) * thick for row in range(len(groups))]
            axes.barh(
                places, [values[number] for values in groups.values()], thick,
                color=SERIES[number], label=name,
            )  # fmt: skip
        _name_rows(axes, list(groups), label)
        if len(series) > 1:
            figure.legend(loc="outside upper right", ncols=len(series))

    return to_inline_svg(draw, _WIDTH, _FRAME + 0.35 + 0.8 * _LINE * len(series) * len(groups))


def stacked(groups: Mapping[str, Sequence[float]], series: Sequence[str], label: str) -> str:
    """Return a plot of one bar for each group, made of the values of each series."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        left = [0.0] * len(groups)
        for number, name in enumerate(series):
            values = [of_group[number] for of_group in groups.values()]
            axes.barh(list(groups), values, 0.6, left, color=SERIES[number], label=name)
            left = [a + b for a, b in zip(left, values, strict=True)]
        _name_rows(axes, list(groups), label)
        figure.legend(loc="outside upper right", ncols=len(series))

    return to_inline_svg(draw, _WIDTH, _FRAME + 0.35 + 1.3 * _LINE * len(groups))


def _name_rows(axes: Any, names: Sequence[str], label: str) -> None:
    axes.set_yticks(range(len(names)), map(_shortened, names))
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(label)
    axes.locator_params(axis="x", nbins=5)
    axes.grid(axis="x", color=BASELINE, alpha=0.3)
    axes.set_axisbelow(True)


def _shortened(name: str) -> str:
    """Return a name that leaves room for the plot: its middle is left out."""
    if len(name) <= _LONGEST:
        return name
    end = (_LONGEST - 1) // 2
    return f"{name[:end]}…{name[-end:]}"
