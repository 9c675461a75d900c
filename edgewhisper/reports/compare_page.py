"""The page of a comparison: several systems beside the first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

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
    Tone,
)
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
ALL = "all data together"
_TONES: dict[Word, Tone] = {"better": "good", "worse": "bad"}
_SPEED, _MEMORY = FIGURES[0][0], FIGURES[-1][0]
_CHIEF: dict[str, Callable[[Difference], RateDifference | Ratio]] = {
    "error rate": lambda each: each.overall,
    _SPEED: lambda each: each.speed[_SPEED],
    "weights": lambda each: each.sizes["weights"],
}


def page(result: SystemComparison) -> Page:
    """Return the page of a comparison."""
    others = result.differences
    chief, words = _chief(result)
    tones = {_TONES.get(word, "open") for word in words}
    counts = (f"{count} {word}" if len(others) > 1 else word for word, count in words.items())
    return Page(
        title=f"{', '.join(others)} against {result.first.name}",
        verdict=f"{chief}: {', '.join(counts)}",
        tone="bad" if "bad" in tones else "open" if "open" in tones else "good",
        sentence=" ".join(_sentence(result.first, name, each) for name, each in others.items()),
        figures=tuple(_figure(system) for system in result.systems.values()),
        sections=tuple(_sections(result)),
        notes=tuple(_notes(result)),
    )


def _chief(result: SystemComparison) -> tuple[str, Counter[Word]]:
    """Return the first of error rate, speed and size that could be compared, and its words."""
    words = {
        name: Counter(figure(each).word for each in result.differences.values())
        for name, figure in _CHIEF.items()
    }
    compared = (item for item in words.items() if {*item[1]} != {"not comparable"})
    return next(compared, next(iter(words.items())))


def _sentence(first: System, name: str, each: Difference) -> str:
    compared = each.overall.comparison
    figures: dict[str, RateDifference | Ratio] = {
        RATES[compared.metric] if compared else "error rate": each.overall,
        "weights": each.sizes["weights"],
        _SPEED: each.speed[_SPEED],
        "peak memory": each.speed[_MEMORY],
    }
    told = [
        f"{figure} {_told(difference, brief=True)}"
        for figure, difference in figures.items()
        if difference.word != "not comparable"
    ]
    return f"{name} against {first.name}: {'; '.join(told) or 'nothing could be compared'}."


def _told(figure: RateDifference | Ratio, *, brief: bool = False) -> str:
    """Return a difference, its interval unless it is told in brief, and the word for it."""
    if isinstance(figure, RateDifference):
        change, interval = _points(figure)
    else:
        change, interval = _percents(figure)
    if not change:
        return figure.word
    return f"{change}{'' if brief else interval}: {figure.word}"


def _points(rate: RateDifference) -> tuple[str, str]:
    compared = rate.comparison
    if compared is None:
        return "", ""
    return f"{compared.d:+.2f} points", f" ({signed(compared.interval)})"


def _percents(ratio: Ratio) -> tuple[str, str]:
    if ratio.ratio is None or ratio.word == "same":
        return "", ""
    change = f"{_percent(ratio.ratio)} %"
    if ratio.low is None or ratio.high is None:
        return change, ""
    return change, f" ({_percent(ratio.low)} to {_percent(ratio.high)})"


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
    if any(system.sizes for system in result.systems.values()):
        yield Section("Size", (_sizes(result),))
    yield Section("To repeat it", (_provenance(result),))


def _words(result: SystemComparison) -> Table:
    others = result.differences.values()
    rows = [
        ("error rate", *(_told(each.overall) for each in others)),
        *((SIZES[name], *(_told(each.sizes[name]) for each in others)) for name in SIZES),
        *((name, *(_told(each.speed[name]) for each in others)) for name, _, _ in FIGURES),
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
        yield Plot(
            plots.intervals(estimates, "difference, points (95 %)"),
            f"Error rates less that of {result.first.name} in points, 95 % intervals: {described}.",
        )
    yield _rate_table(result, ALL)
    splits = dict.fromkeys(split for s in result.systems.values() for split in _splits(s))
    if splits:
        tables = tuple(_rate_table(result, split) for split in splits)
        yield Folded(f"Each of {len(splits)} splits", tables)
    scored = {
        f"{language}: {score.metric}, {score.normalizer}. {score.remark}".rstrip()
        for system in result.systems.values()
        for language, score in system.languages.items()
    }
    yield Text(" ".join(sorted(scored)))


def _splits(system: System) -> tuple[str, ...]:
    return tuple(system.rates) if len(system.rates) > 1 else ()


def _rate_table(result: SystemComparison, split: str) -> Table:
    """Return the table of a split, or of all together."""
    rows = []
    for name, system in result.systems.items():
        rate = system.overall if split == ALL else system.rates.get(split)
        if rate is None:
            continue
        other = result.differences.get(name)
        against = other and (other.overall if split == ALL else other.splits.get(split))
        compared = against.comparison if against else None
        rows.append(
            (
                name, str(rate.utterances), f"{rate.wer:.2f} ({unsigned(rate.interval)})",
                difference(compared) if compared else "", against.word if against else "",
                both_intervals(compared) if compared else "",
            )
        )  # fmt: skip
    metrics = {s.overall.metric for s in result.systems.values() if s.overall is not None}
    return Table(
        f"{split.capitalize() if split == ALL else split}, with 95 % intervals",
        (
            Column("system", numeric=False), Column("utterances"),
            Column(f"{' or '.join(sorted(metrics))}, %"), Column("difference, points"),
            Column("in a word", numeric=False), Column("both intervals", numeric=False),
        ),
        tuple(rows),
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
