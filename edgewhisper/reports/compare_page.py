"""The page of a comparison: several systems beside the first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from edgewhisper.reports import plots, provenance
from edgewhisper.reports.differences import (
    Difference,
    RateDifference,
    Ratio,
    SystemComparison,
    Word,
)
from edgewhisper.reports.systems import Size, System
from edgewhisper.reports.timing import FIGURES, blocks
from edgewhisper.reports.view import Block, Column, Figure, Page, Plot, Section, Table, Text, Tone
from edgewhisper.reports.wording import (
    RATES,
    SYNTHETIC,
    both_intervals,
    describe,
    difference,
    megabytes,
    signed,
    spread,
    unsigned,
)

SIZES: dict[Size, str] = {
    "weights": "weights",
    "bundle": "whole bundle",
    "installed": "installed, without Python",
}
_TONES: dict[Word, Tone] = {"better": "good", "worse": "bad"}
_SPEED, _MEMORY = FIGURES[0][0], FIGURES[-1][0]


def page(result: SystemComparison) -> Page:
    """Return the page of a comparison."""
    first, others = result.first, result.differences
    judged = {name: _chief(each) for name, each in others.items()}
    words = Counter(figure.word for _, figure in judged.values())
    names = {name for name, _ in judged.values()}
    tones = {_TONES.get(word, "open") for word in words}
    return Page(
        title=f"{', '.join(others)} against {first.name}",
        verdict=f"{' or '.join(sorted(names))}: "
        + ", ".join(
            f"{count} {word}" if len(others) > 1 else word for word, count in words.items()
        ),
        tone=tones.pop() if len(tones) == 1 else "bad" if "bad" in tones else "open",
        sentence=" ".join(_sentence(first, name, each) for name, each in others.items()),
        figures=tuple(_figure(system) for system in result.systems.values()),
        sections=tuple(_sections(result)),
        notes=tuple(_notes(result)),
    )


def _chief(each: Difference) -> tuple[str, RateDifference | Ratio]:
    """Return the figure that counts most among those that can be compared, and its name."""
    figures: dict[str, RateDifference | Ratio] = {
        "error rate": each.overall,
        _SPEED: each.speed[_SPEED],
        **{SIZES[name]: size for name, size in each.sizes.items()},
    }
    compared = (item for item in figures.items() if item[1].word != "not comparable")
    return next(compared, ("error rate", each.overall))


def _sentence(first: System, name: str, each: Difference) -> str:
    figures = {
        _rate_name(each.overall): _of_rate(each.overall),
        "weights": _of_ratio(each.sizes["weights"]),
        _SPEED: _of_ratio(each.speed[_SPEED]),
        "peak memory": _of_ratio(each.speed[_MEMORY]),
    }
    told = "; ".join(f"{figure} {text}" for figure, text in figures.items())
    return f"{name} against {first.name}: {told}."


def _rate_name(rate: RateDifference) -> str:
    return "error rate" if rate.comparison is None else RATES[rate.comparison.metric]


def _of_rate(rate: RateDifference) -> str:
    """Return a difference of error rates, and the word for it."""
    compared = rate.comparison
    if compared is None:
        return rate.word
    return f"{compared.d:+.2f} points ({signed(compared.interval)}): {rate.word}"


def _of_ratio(ratio: Ratio) -> str:
    """Return a ratio as a change in percent, and the word for it."""
    if ratio.ratio is None:
        return ratio.word
    text = f"{_percent(ratio.ratio)} %"
    if ratio.low is not None and ratio.high is not None:
        text += f" ({_percent(ratio.low)} to {_percent(ratio.high)})"
    return f"{text}: {ratio.word}"


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f}"


def _figure(system: System) -> Figure:
    """Return the figure of a system that is shown large."""
    if system.overall is not None:
        return Figure(f"{system.overall.wer:.2f} %", system.name, RATES[system.overall.metric])
    if system.runs:
        _, figure, form = FIGURES[0]
        return Figure(spread([figure(run) for run in system.runs], form), system.name, _SPEED)
    return Figure(megabytes(system.sizes["weights"]), system.name, "weights")


def _notes(result: SystemComparison) -> Iterator[str]:
    for name, each in result.differences.items():
        yield from (f"{name} against {result.first.name}: {reason}." for reason in each.reasons)
    if any(system.synthetic for system in result.systems.values()):
        yield SYNTHETIC


def _sections(result: SystemComparison) -> Iterator[Section]:
    yield Section("Each figure in a word", (_words(result),))
    if any(system.overall for system in result.systems.values()):
        yield Section("Error rates", tuple(_rates(result)))
    yield Section("Speed and memory", tuple(_speed(result)))
    yield Section("Size", (_sizes(result),))
    yield Section("To repeat it", (_provenance(result),))


def _words(result: SystemComparison) -> Table:
    others = result.differences.values()
    rows = [
        ("error rate", *(_of_rate(each.overall) for each in others)),
        *((SIZES[name], *(_of_ratio(each.sizes[name]) for each in others)) for name in SIZES),
        *((name, *(_of_ratio(each.speed[name]) for each in others)) for name, _, _ in FIGURES),
    ]
    known = (row for row in rows if {*row[1:]} != {"not comparable"})
    return Table(
        f"Against {result.first.name}; in brackets the 95 % interval",
        (
            Column("figure", numeric=False),
            *(Column(name, numeric=False) for name in result.differences),
        ),
        tuple(known),
    )


def _rates(result: SystemComparison) -> Iterator[Block]:
    compared = {
        name: each.overall.comparison
        for name, each in result.differences.items()
        if each.overall.comparison is not None
    }
    if compared:
        estimates = [
            plots.Estimate(name, c.d, c.interval.low, c.interval.high)
            for name, c in compared.items()
        ]
        described = "; ".join(f"{name} {difference(c)}" for name, c in compared.items())
        label = f"change from {result.first.name}, points (95 %)"
        yield Plot(
            plots.intervals(estimates, label),
            f"Error rates less that of {result.first.name} in points, 95 % intervals: {described}.",
        )
    columns = (
        Column("system", numeric=False), Column("data", numeric=False), Column("utterances"),
        Column("metric", numeric=False), Column("error rate, %"), Column("difference, points"),
        Column("in a word", numeric=False), Column("both intervals", numeric=False),
    )  # fmt: skip
    rows = tuple((name, *row) for name in result.systems for row in _rate_rows(result, name))
    yield Table("Error rates and differences, with 95 % intervals", columns, rows)
    scored = {
        f"{language}: {score.metric}, {score.normalizer}. {score.remark}".rstrip()
        for system in result.systems.values()
        for language, score in system.languages.items()
    }
    yield Text(" ".join(sorted(scored)))


def _rate_rows(result: SystemComparison, name: str) -> Iterator[tuple[str, ...]]:
    system, other = result.systems[name], result.differences.get(name)
    splits = system.rates if len(system.rates) > 1 else {}
    figures = [(split, rate, other and other.splits.get(split)) for split, rate in splits.items()]
    if system.overall is not None:
        data = "all splits" if splits else "".join(system.rates) or system.data
        figures.append((data, system.overall, other and other.overall))
    for data, rate, against in figures:
        compared = against.comparison if against else None
        yield (
            data, str(rate.utterances), rate.metric, f"{rate.wer:.2f} ({unsigned(rate.interval)})",
            difference(compared) if compared else "",
            against.word if against else "",
            both_intervals(compared) if compared else "",
        )  # fmt: skip


def _speed(result: SystemComparison) -> Iterator[Block]:
    runs = {name: system.runs for name, system in result.systems.items() if system.runs}
    if runs:
        yield from blocks(runs, "not in turns, so their intervals hold no drift of the machine")
        columns = (
            Column("system", numeric=False), Column("machine", numeric=False),
            Column("device", numeric=False), Column("threads"), Column("files"),
            Column("audio, s"),
        )  # fmt: skip
        settings = {name: s.setting for name, s in result.systems.items() if s.setting}
        rows = tuple(
            (
                name, describe(each.machine), each.device, str(each.threads), str(len(each.files)),
                f"{sum(each.audio_seconds):.1f}",
            )
            for name, each in settings.items()
        )  # fmt: skip
        yield Table("What speed and memory were measured with", columns, rows)
    else:
        yield Text("Speed and memory were not measured.")
    rtfs = {name: s.rtf for name, s in result.systems.items() if s.rtf is not None}
    if rtfs:
        yield Table(
            "Real-time factor while evaluating, once, so not compared",
            (Column("system", numeric=False), Column("real-time factor")),
            tuple((name, f"{rtf:.3f}") for name, rtf in rtfs.items()),
        )


def _sizes(result: SystemComparison) -> Table:
    rows = tuple(
        (name, *(megabytes(s.sizes[size]) if size in s.sizes else "not known" for size in SIZES))
        for name, s in result.systems.items()
    )
    return Table("On disk", (Column("system", numeric=False), *map(Column, SIZES.values())), rows)


def _provenance(result: SystemComparison) -> Table:
    sources = {
        name: f"{s.kind} {s.source}, SHA-256 {s.sha256}{', data ' + s.data if s.data else ''}"
        for name, s in result.systems.items()
    }
    return provenance.table(
        {
            "command": result.command or "not recorded",
            **sources,
            "normalizer": f"{result.normalizer.name} {result.normalizer.version}",
            "EdgeWhisper": result.edgewhisper,
            "created": result.created,
        }
    )
