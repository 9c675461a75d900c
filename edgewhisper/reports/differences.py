"""Several systems compared with the first: each figure's difference, and a word for it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import Any, Literal, get_args

from edgewhisper.evaluation.comparison import Comparison, Records, compare
from edgewhisper.evaluation.normalizing import Normalizer
from edgewhisper.reports.systems import Size, Source, System
from edgewhisper.reports.timing import MEMORY, TIMES, TimedFigure
from edgewhisper_runtime.bundle.fields import FreeText
from edgewhisper_runtime.cli.recordings import MEDIA_SUFFIXES, SUFFIXES
from edgewhisper_runtime.errors import DataError
from edgewhisper_runtime.measure.machine import Machine

Word = Literal["better", "worse", "same", "no difference shown", "not comparable"]
_SOFTWARE = {"system", "python"}  # of a machine: an update makes no other machine of it


@dataclass(frozen=True)
class RateDifference:
    """An error rate less the first system's, in points; `reason` where they are not comparable."""

    word: Word
    comparison: Comparison | None = None
    reason: str = ""


@dataclass(frozen=True)
class Ratio:
    """A figure divided by the first system's: of geometric means, where there are several runs.

    `low` and `high` are the ends of the 95 % interval of Student's t test on logarithms. Its
    variance is that of both systems' runs together, as it is the machine that makes runs differ.
    None where each has one run, and for sizes, which are exact.
    """

    word: Word
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Difference:
    """A system compared with the first.

    `overall` is over all splits together, `splits` has each that both systems name. `speed` is by
    the names in `timing.FIGURES`.
    """

    overall: RateDifference
    splits: dict[str, RateDifference]
    sizes: dict[Size, Ratio]
    speed: dict[str, Ratio]

    @property
    def figures(self) -> tuple[RateDifference | Ratio, ...]:
        """All figures but those of single splits."""
        return (self.overall, *self.sizes.values(), *self.speed.values())

    @property
    def comparable(self) -> bool:
        """Whether any figure could be compared."""
        return any(figure.word != "not comparable" for figure in self.figures)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why figures are not comparable, each reason once."""
        return tuple(dict.fromkeys(each.reason for each in self.figures if each.reason))


@dataclass(frozen=True)
class SystemComparison:
    """Systems by name, the first one's first, and the differences of each other from it."""

    created: str
    edgewhisper: str
    command: FreeText
    normalizer: Normalizer
    systems: dict[str, System]
    differences: dict[str, Difference]

    @property
    def first(self) -> System:
        """The system that the others are compared with."""
        return next(iter(self.systems.values()))


def differences(sources: Sequence[Source]) -> dict[str, Difference]:
    """Return how each source but the first differs from the first, by name."""
    first, *others = sources
    return {other.system.name: _difference(first, other) for other in others}


def named_apart(sources: Sequence[Source]) -> list[Source]:
    """Return the sources; where several have one name, with what differs in their paths."""
    names = [source.system.name for source in sources]
    paths = [Path(source.system.source).absolute() for source in sources]
    common = os.path.commonpath([path.parent for path in paths])
    for tell in (partial(_place, Path(common)), str):
        apart = [
            f"{name} ({tell(path)})" if names.count(name) > 1 else name
            for name, path in zip(names, paths, strict=True)
        ]
        if len({*apart}) == len(apart):
            break
    return [
        replace(source, system=replace(source.system, name=name))
        for name, source in zip(apart, sources, strict=True)
    ]


def _place(common: Path, path: Path) -> str:
    """Return a path below a directory, without a suffix; of a report, its directory."""
    place = path.relative_to(common)
    if path.name == "report.json" and place.name != str(place):
        return str(place.parent)
    return str(place.with_suffix("") if path.is_file() else place)


def _difference(first: Source, other: Source) -> Difference:
    before: Records = first.records
    after: Records = other.records
    by_split = before.keys() == after.keys()
    if not by_split:  # transcripts of other engines name no splits
        before, after = _joined(before), _joined(after)
    before, after = _named_alike(before, after)
    reason = _rates_reason(first, other)
    splits = before if by_split and len(before) > 1 else {}
    return Difference(
        overall=_rate(before, after, reason),
        splits={s: _rate({s: before[s]}, {s: after[s]}, reason) for s in splits},
        sizes={name: _size(first.system, other.system, name) for name in get_args(Size)},
        speed=_speed(first.system, other.system),
    )


def _joined(records: Records) -> Records:
    return {"": tuple(record for of_split in records.values() for record in of_split)}


def _named_alike(before: Records, after: Records) -> tuple[Records, Records]:
    """Return the records of two systems, with names of files as ids where whole paths differ.

    Other engines may have the audio elsewhere, or on another machine. Where two files have one
    name, the ids stay as they are.
    """
    if _ids(before) == _ids(after):
        return before, after
    by_name = _by_file_name(before), _by_file_name(after)
    kept = all(
        len(_ids(new)) == len(_ids(old)) for new, old in zip(by_name, (before, after), strict=True)
    )
    return by_name if kept else (before, after)


def _by_file_name(records: Records) -> Records:
    return {
        split: [replace(record, id=_file_name(record.id)) for record in of_split]
        for split, of_split in records.items()
    }


def _ids(records: Records) -> set[tuple[str, str]]:
    return {(split, record.id) for split, of_split in records.items() for record in of_split}


def _file_name(name: str) -> str:
    """Return the name of an audio file without its directory and suffix; another id as it is."""
    path = PureWindowsPath(name)  # which knows both kinds of separators
    return path.stem if path.suffix.lower() in SUFFIXES | MEDIA_SUFFIXES else path.name


def _rates_reason(first: Source, other: Source) -> str:
    without = [source.system.name for source in (first, other) if not source.records]
    if without:
        return f"there are no texts of {' and '.join(without)}"
    if first.conditions != other.conditions:
        return "speech was in different conditions"
    return ""


def _rate(before: Records, after: Records, reason: str) -> RateDifference:
    comparison = None
    if not reason:
        try:
            comparison = compare(before, after)
        except DataError as error:
            reason = str(error).rstrip(".")
    if comparison is None:
        told = f"error rates cannot be compared: {reason}"
        return RateDifference("not comparable", reason=told)
    word: Word = "no difference shown"
    if comparison.difference_shown:
        word = "better" if comparison.d < 0 else "worse"
    return RateDifference(word, comparison)


def _size(first: System, other: System, name: Size) -> Ratio:
    before, after = first.sizes.get(name), other.sizes.get(name)
    return _exact(after / before) if before and after else Ratio("not comparable")


def _exact(ratio: float) -> Ratio:
    return Ratio("same" if ratio == 1 else "better" if ratio < 1 else "worse", ratio)


def _speed(first: System, other: System) -> dict[str, Ratio]:
    reason = _speed_reason(first, other)
    told = reason and f"speed and memory cannot be compared: {reason}"
    busy = [system.name for system in (first, other) if any(r.disturbed for r in system.runs)]
    told_of_times = told or (
        f"times cannot be compared: every run of {' and '.join(busy)} was disturbed; measure again "
        "on a quiet, cool machine"
        if busy
        else ""
    )
    return _ratios(TIMES, first, other, told_of_times) | _ratios(MEMORY, first, other, told)


def _ratios(
    figures: Sequence[TimedFigure], first: System, other: System, reason: str
) -> dict[str, Ratio]:
    return {
        name: Ratio("not comparable", reason=reason)
        if reason
        else _ratio(*([figure(run) for run in system.runs] for system in (first, other)))
        for name, figure, _ in figures
    }


def _speed_reason(first: System, other: System) -> str:
    before, after = first.setting, other.setting
    if before is None or after is None:
        without = [system.name for system in (first, other) if system.setting is None]
        return f"there are none of {' and '.join(without)}"
    if before.machine.cpu != after.machine.cpu:
        return f"other machines ({before.machine.cpu} and {after.machine.cpu})"
    hardware = [each.name for each in fields(Machine) if each.name not in _SOFTWARE]
    changed = [
        *_changed(before.machine, after.machine, hardware),
        *_changed(before, after, ("device", "threads")),
    ]
    if changed:
        return f"other machines or settings ({'; '.join(changed)})"
    if (before.files, before.audio_seconds) != (after.files, after.audio_seconds):
        return "other audio files were measured with"
    return ""


def _changed(first: object, other: object, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        was, is_now = _shown(first, name), _shown(other, name)
        if was != is_now:
            yield f"{name.replace('_', ' ')}: {was} and {is_now}"


def _shown(owner: object, name: str) -> str:
    value: Any = getattr(owner, name)
    if isinstance(value, dict):
        return " ".join(f"{key}={each}" for key, each in value.items()) or "none"
    return " ".join(value) if isinstance(value, tuple) else str(value)


def _ratio(first: Sequence[float], other: Sequence[float]) -> Ratio:
    """Return the ratio of two figures, each of several runs, with its interval."""
    import numpy as np
    from scipy.stats import ttest_ind

    if min(*first, *other) <= 0:
        return Ratio("not comparable", reason="a figure of a run is zero")
    before, after = np.log(first), np.log(other)
    ratio = float(np.exp(after.mean() - before.mean()))
    if len(first) == len(other) == 1:
        reason = "one run each has no spread, so it shows no difference in speed and memory"
        return Ratio("no difference shown", ratio, reason=reason)
    if len({*first}) == len({*other}) == 1:
        return _exact(ratio)
    ends = ttest_ind(after, before).confidence_interval(0.95)
    low, high = np.exp(ends.low), np.exp(ends.high)
    word: Word = "better" if high < 1 else "worse" if low > 1 else "no difference shown"
    return Ratio(word, ratio, float(low), float(high))
