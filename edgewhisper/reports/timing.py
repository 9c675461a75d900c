"""Speed and memory on a page: medians with their spread, and where the time goes."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgewhisper.reports import plots
from edgewhisper.reports.results import Report
from edgewhisper.reports.view import Block, Column, Plot, Table, Text
from edgewhisper.reports.wording import left_out, spread
from edgewhisper_runtime.measure.figures import ProfileRun, counted, undisturbed

Runs = Mapping[str, Sequence[ProfileRun]]
_STEPS = ("features and tokens", "encoder", "decoder")
# The name with the unit, the figure of a run, of which less is better, and how it is written.
TimedFigure = tuple[str, Callable[[ProfileRun], float], str]
TIMES: tuple[TimedFigure, ...] = (
    ("real-time factor", lambda run: run.rtf, ".3f"),
    ("processor seconds for a second of audio",
     lambda run: run.cpu_seconds / sum(run.audio_seconds), ".3f"),
    ("load, s", lambda run: run.load_seconds, ".2f"),
    ("first token, s", lambda run: run.first_token_seconds, ".2f"),
    ("decoder step, ms", lambda run: 1e3 * run.decoder_seconds / max(run.decoder_steps, 1), ".1f"),
)  # fmt: skip
MEMORY: tuple[TimedFigure, ...] = (
    ("peak memory after loading, MB", lambda run: run.peak_rss_load_bytes / 1e6, ".0f"),
    ("peak memory, MB", lambda run: run.peak_rss_bytes / 1e6, ".0f"),
)
FIGURES = (*TIMES, *MEMORY)


@dataclass(frozen=True)
class Speed:
    """The real-time factor of a model, and its peak memory in bytes where it was measured."""

    rtf: float
    peak_bytes: float | None = None


def speeds(report: Report, role: str) -> Speed:
    """Return the medians of a role's timed runs that count; without any, the evaluation's speed."""
    runs = counted(report.speed.runs.get(role, ())) if report.speed else ()
    if runs:
        return Speed(
            statistics.median(run.rtf for run in runs),
            statistics.median(run.peak_rss_bytes for run in runs),
        )
    records = [record for split in report.records[role].values() for record in split]
    return Speed(sum(r.seconds for r in records) / sum(r.duration for r in records))


def speed_blocks(report: Report) -> Iterator[Block]:
    """Yield what a report tells of speed and memory."""
    timing = report.speed
    if timing is not None and any(timing.runs.values()):
        yield from blocks(timing.runs, f"{len(timing.files)} files, {timing.threads} threads")
        notes = [left_out(sum(len(runs) - len(counted(runs)) for runs in timing.runs.values()))]
        notes += [
            f"The machine was busy with other work in every run of the {role}."
            for role, runs in timing.runs.items()
            if runs and not undisturbed(runs)
        ]
        if note := " ".join(filter(None, notes)):
            yield Text(note)
    else:
        yield Text(
            "Memory was not measured, and speed only while evaluating, one model after the other. "
            "`--rounds 3` measures both in fresh processes, in turns."
        )
    columns = (
        Column("split", numeric=False), Column("audio, s"), Column("baseline"), Column("variant"),
    )  # fmt: skip
    rows = tuple(
        (split, f"{s.variant.audio_seconds:.1f}", f"{s.baseline.rtf:.3f}", f"{s.variant.rtf:.3f}")
        for split, s in report.summary.items()
    )
    yield Table("Real-time factor while evaluating", columns, rows)


def blocks(runs: Runs, measured_on: str) -> Iterator[Block]:
    """Yield where the time goes as a plot, and every figure with its spread, of several models.

    Of the runs that count: see `figures.counted`.
    """
    timed = {name: counted(of_name) for name, of_name in runs.items() if of_name}
    shares = {name: _steps(of_name) for name, of_name in timed.items()}
    described = "; ".join(
        f"{name}: "
        + ", ".join(f"{step} {value:.3f}" for step, value in zip(_STEPS, of_name, strict=True))
        for name, of_name in shares.items()
    )
    yield Plot(
        plots.stacked(shares, _STEPS, "seconds of work for a second of audio"),
        f"Where the time goes, in seconds of work for a second of audio: {described}.",
    )
    counts = {len(of_name) for of_name in timed.values()}
    processes = f"{'up to ' if len(counts) > 1 else ''}{max(counts)} fresh processes"
    medians = f"Medians of {processes}, in brackets lowest and highest"
    yield Table(
        f"{'One fresh process' if counts == {1} else medians}; {measured_on}",
        (Column("figure", numeric=False), *map(Column, timed)),
        tuple(
            (name, *(spread([figure(run) for run in of_name], form) for of_name in timed.values()))
            for name, figure, form in FIGURES
        ),
    )


def _steps(runs: Sequence[ProfileRun]) -> list[float]:
    """Return the seconds of each of `_STEPS` for a second of audio, medians over the runs."""

    def median(figure: Callable[[ProfileRun], float]) -> float:
        return statistics.median(figure(run) / sum(run.audio_seconds) for run in runs)

    return [
        median(lambda run: sum(run.seconds) - run.encoder_seconds - run.decoder_seconds),
        median(lambda run: run.encoder_seconds),
        median(lambda run: run.decoder_seconds),
    ]
