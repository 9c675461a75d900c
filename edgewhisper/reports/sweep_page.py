"""The page of a sweep: many recipes of one model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from edgewhisper.quantizers.census import summarize
from edgewhisper.recipes import BASELINE
from edgewhisper.reports import curves, matrix, plots, provenance
from edgewhisper.reports.results import FailedRow, SweepResult, SweepRow
from edgewhisper.reports.view import (
    Block,
    Column,
    Figure,
    Folded,
    Page,
    Plot,
    Section,
    Table,
    Text,
)
from edgewhisper.reports.wording import (
    RATES,
    SYNTHETIC,
    both_intervals,
    change,
    describe,
    difference,
    faster,
    left_out,
    measured,
    megabytes,
    points,
    sized,
    spread,
    unsigned,
)
from edgewhisper_runtime.measure.figures import undisturbed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure

_WIDTH, _HEIGHT = 4.7, 3.8  # inches of a plot


def page(result: SweepResult) -> Page:
    """Return a sweep's page."""
    judged = {name: row for name, row in result.measured.items() if row.gate is not None}
    passed = [name for name, row in judged.items() if row.gate and row.gate.verdict == "passed"]
    smallest = min(passed, key=lambda name: judged[name].weight_bytes, default=None)
    return Page(
        title=f"{result.model.name}: {len(judged)} recipes",
        verdict=f"{len(passed)} of {len(judged)} recipes passed",
        tone="good" if passed else "open",
        sentence=_sentence(result, smallest),
        figures=tuple(_figures(result, smallest)),
        sections=tuple(_sections(result)),
        notes=(SYNTHETIC,) if result.dataset.synthetic else (),
    )


def _sentence(result: SweepResult, name: str | None) -> str:
    if name is None:
        return (
            f"No recipe is proven to keep the {RATES[result.metric]} of {result.model.name} within "
            f"its limit on {result.dataset.name}."
        )
    row, baseline = result.measured[name], result.baseline
    speed, memory = "", ""
    before, after = result.rtf(BASELINE), result.rtf(name)
    if before and after:
        speed = f", {faster(before, after)}"
    was, is_now = result.peak_rss_bytes(BASELINE), result.peak_rss_bytes(name)
    if was and is_now:
        memory = f", peak memory {change(was, is_now, 'less', 'more')}"
    return (
        f"{name} is the smallest recipe whose {RATES[result.metric]} is proven to stay within its "
        f"limit of {points(row.recipe.max_wer_increase)}"
        f"{measured(row.gate.overall if row.gate else None)}; it is "
        f"{sized(baseline.weight_bytes, row.weight_bytes, 'fp32')} "
        f"({megabytes(row.weight_bytes)} instead of {megabytes(baseline.weight_bytes)})"
        f"{speed}{memory}."
    )


def _figures(result: SweepResult, name: str | None) -> Iterator[Figure]:
    for recipe in filter(None, (BASELINE, name)):
        row = result.measured[recipe]
        shown = (f"{row.summary[split].wer:.2f} % {split}" for split in matrix.plotted(result))
        yield Figure(megabytes(row.weight_bytes), recipe, f"{result.metric} {', '.join(shown)}")


def _sections(result: SweepResult) -> Iterator[Section]:
    rate = RATES[result.metric].capitalize()
    yield Section(f"{rate} against size and speed", tuple(_pareto(result)))
    if curves.curves(result):
        yield Section(f"{rate} in noise", tuple(_noise(result)))
    yield Section("Recipes", tuple(_tables(result)))
    failed = tuple(
        (name, row.error) for name, row in result.rows.items() if isinstance(row, FailedRow)
    )
    if failed:
        columns = (Column("recipe", numeric=False), Column("reason", numeric=False))
        yield Section("Recipes that failed", (Table("Failures", columns, failed),))
    yield Section("To repeat it", tuple(_provenance(result)))


def _pareto(result: SweepResult) -> Iterator[Block]:
    for split in matrix.plotted(result):
        for label, measure in matrix.measures(result).items():
            draw = partial(matrix.draw, result=result, split=split, label=label, measure=measure)
            yield Plot(
                plots.to_inline_svg(partial(_with_legend, draw), _WIDTH, _HEIGHT),
                f"{result.baseline.summary[split].metric} on {split} against {label}, each recipe "
                "a point; the tables have figures.",
            )


def _noise(result: SweepResult) -> Iterator[Block]:
    for title, curve in curves.curves(result).items():
        for label, draw in (
            (f"{curves.metric(result, curve)} %, {title}", curves.draw_wer),
            (f"difference from fp32, {title}", curves.draw_difference),
        ):
            drawn = partial(draw, result=result, curve=curve)
            yield Plot(
                plots.to_inline_svg(partial(_with_legend, drawn), _WIDTH, _HEIGHT),
                f"{label}, against the ratio of speech to noise in dB, each recipe a line; the "
                "tables have the figures.",
            )


def _with_legend(draw: Callable[[Axes], object], figure: MatplotlibFigure) -> None:
    axes = figure.subplots()
    draw(axes)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)


def _tables(result: SweepResult) -> Iterator[Block]:
    by_size = dict(sorted(result.measured.items(), key=lambda item: item[1].weight_bytes))
    yield Table(
        "Size, speed and verdict; medians, in brackets the lowest and highest",
        (
            Column("recipe", numeric=False), Column("weights"), Column("gate", numeric=False),
            Column("real-time factor"), Column("peak memory, MB"), Column("scope", numeric=False),
        ),
        tuple(_row(result, name, row) for name, row in by_size.items()),
    )  # fmt: skip
    timed = result.speed.runs.values() if result.speed else ()
    if note := left_out(sum(run.disturbed for of_one in timed for run in of_one)):
        yield Text(note)
    for split in result.utterances:
        metric = result.baseline.summary[split].metric
        columns = (
            Column("recipe", numeric=False), Column(f"{metric}, %"),
            Column("difference, points"), Column("both intervals", numeric=False),
            Column("utterances"),
        )  # fmt: skip
        rows = tuple(_rate(name, row, split) for name, row in by_size.items())
        table = Table(f"{RATES[metric].capitalize()} on {split}, 95 % intervals", columns, rows)
        yield Folded(split, (table,)) if result.conditions else table
    overall = tuple(
        (name, difference(gate.overall), both_intervals(gate.overall), matrix.verdict(result, name))
        for name, row in by_size.items()
        if (gate := row.gate) is not None and gate.overall is not None
    )
    yield Table(
        f"Difference of {RATES[result.metric]} over all splits together, which the gate judges",
        (
            Column("recipe", numeric=False), Column("difference, points"),
            Column("both intervals", numeric=False), Column("gate", numeric=False),
        ),
        overall,
    )  # fmt: skip
    if note := matrix.many_comparisons(result):
        yield Text(note)


def _row(result: SweepResult, name: str, row: SweepRow) -> tuple[str, ...]:
    runs = result.runs(name)
    factors = [run.rtf for run in undisturbed(runs)]
    unknown = matrix.BUSY if runs else "not measured"
    return (
        name, megabytes(row.weight_bytes), matrix.verdict(result, name),
        spread(factors) if factors else unknown,
        spread([run.peak_rss_bytes / 1e6 for run in runs], ".0f") if runs else "not measured",
        summarize(row.census),
    )  # fmt: skip


def _rate(name: str, row: SweepRow, split: str) -> tuple[str, ...]:
    summary = row.summary[split]
    compared = row.comparison[split] if row.comparison else None
    return (
        name,
        f"{summary.wer:.2f} ({unsigned(summary.interval)})",
        difference(compared) if compared else "baseline",
        both_intervals(compared) if compared else "",
        str(summary.utterances),
    )


def _provenance(result: SweepResult) -> Iterator[Block]:
    yield provenance.table(
        {
            "command": result.command or "not recorded",
            **provenance.model(result.model),
            "data": provenance.data(result.dataset),
            "machine": describe(result.machine),
            "device": result.device,
            "normalizer": f"{result.normalizer.name} {result.normalizer.version}",
            "EdgeWhisper": result.edgewhisper,
            "created": result.created,
        }
    )
    if result.conditions:
        yield provenance.conditions_table(result.conditions)
    yield Text(
        "results.json beside this page holds every reference and every raw text; `edgewhisper "
        "score results.json` computes these figures again."
    )
