"""What can be compared: bundles, reports, profiles, and transcripts of other engines."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgewhisper.evaluation import wer
from edgewhisper.evaluation.conditions import ConditionedSplit
from edgewhisper.evaluation.normalizing import NormalizerName
from edgewhisper.evaluation.wer import ErrorSummary, LanguageScore, Record
from edgewhisper.reports import transcripts
from edgewhisper.reports.results import Report, read_object
from edgewhisper_runtime.bundle import Manifest, describe_file, parse, verify
from edgewhisper_runtime.bundle.fields import Count, Duration, FieldError
from edgewhisper_runtime.errors import DataError
from edgewhisper_runtime.measure.figures import ProfileReport, ProfileRun, counted
from edgewhisper_runtime.measure.machine import Machine

Kind = Literal["bundle", "report", "profile", "transcripts"]
Size = Literal["weights", "bundle", "installed"]


@dataclass(frozen=True)
class Setting:
    """What speed and memory were measured with, and the seconds of audio in each file."""

    machine: Machine
    device: str
    threads: Count
    files: tuple[str, ...]
    audio_seconds: tuple[Duration, ...]


@dataclass(frozen=True)
class System:
    """The figures of what is compared; those that its source does not hold are empty.

    `source` is the path as it was named, `sha256` that of the file, or of a bundle's report. Sizes
    are in bytes. `runs` are the timed runs that count, `setting` is theirs. `rates` are by split,
    `overall` is of all splits together, `languages` tells how each language is scored. `rtf` is
    that of the transcription itself, in seconds of work for a second of audio, without repetition.
    """

    name: str
    source: str
    sha256: str
    kind: Kind
    data: str = ""
    synthetic: bool = False
    sizes: dict[Size, Count] = field(default_factory=dict)
    setting: Setting | None = None
    runs: tuple[ProfileRun, ...] = ()
    overall: ErrorSummary | None = None
    rates: dict[str, ErrorSummary] = field(default_factory=dict)
    languages: dict[str, LanguageScore] = field(default_factory=dict)
    rtf: float | None = None


@dataclass(frozen=True)
class Source:
    """A system and its raw texts by split, with the conditions that speech was heard in."""

    system: System
    records: dict[str, tuple[Record, ...]] = field(default_factory=dict)
    conditions: dict[str, ConditionedSplit] = field(default_factory=dict)


def read(
    path: Path,
    references: Path | None = None,
    language: str = "en",
    normalizer: NormalizerName | None = None,
) -> Source:
    """Return what a path holds.

    A bundle's directory, a report.json, what `profile --json` printed, or transcripts, for which
    the other arguments are those of `transcripts.read`. Raises BundleError for a bundle that is not
    intact, DataError for what is none of these.
    """
    found = kind(path)
    if found == "bundle":
        return _bundle(path)
    if found == "report":
        return _report(Report.read(path), path, path, "report")
    if found == "profile":
        return _profile(path, read_object(path))
    records = transcripts.read(path, references, language, normalizer)
    return _scored(
        {"": tuple(records)}, {},
        name=path.stem, source=str(path), sha256=describe_file(path).sha256, kind="transcripts",
    )  # fmt: skip


def kind(path: Path) -> Kind:
    """Return what a path holds; raise DataError for results of many systems."""
    if path.is_dir():
        return "bundle"
    content = read_object(path)
    if "records" in content:
        return "report"
    if "runs" in content:
        return "profile"
    if "rows" in content or "differences" in content:
        raise DataError(
            f"{path} holds a sweep or a comparison, which is of many systems. Name a bundle, the "
            "report.json of a build or evaluation, a profile, or transcripts."
        )
    return "transcripts"


def _bundle(directory: Path) -> Source:
    manifest = verify(directory)
    size = sum(path.stat().st_size for path in directory.iterdir())
    report = directory / "report.json"
    if report.name in manifest.files:
        return _report(Report.read(report), directory, report, "bundle", size)
    return Source(
        System(
            name=manifest.name,
            source=str(directory),
            sha256=describe_file(directory / "manifest.json").sha256,
            kind="bundle",
            sizes={"weights": manifest.weight_bytes, "bundle": size},
        )
    )


def _report(
    report: Report, source: Path, file: Path, kind: Kind, bundle_bytes: int | None = None
) -> Source:
    manifest: Manifest = report.variant
    timing = report.speed
    runs = timing.runs.get("variant", ()) if timing else ()
    sizes: dict[Size, int] = {"weights": manifest.weight_bytes}
    if bundle_bytes is not None:
        sizes["bundle"] = bundle_bytes
    return _scored(
        report.records["variant"], report.conditions,
        name=manifest.name, source=str(source), sha256=describe_file(file).sha256, kind=kind,
        data=report.dataset.name, synthetic=report.dataset.synthetic, sizes=sizes,
        runs=tuple(counted(runs)),
        setting=None if timing is None or not runs else Setting(
            timing.machine, timing.device, timing.threads, timing.files, runs[0].audio_seconds
        ),
    )  # fmt: skip


def _profile(path: Path, content: dict[str, Any]) -> Source:
    try:
        profile = parse(ProfileReport, content, ignore_unknown=True)
        if not profile.runs:
            raise FieldError("it has no run.")
    except FieldError as error:
        raise DataError(f"{path} does not hold a profile ({error}). Name another file.") from error
    summary = profile.summary
    return Source(
        System(
            name=profile.bundle,
            source=str(path),
            sha256=describe_file(path).sha256,
            kind="profile",
            sizes={
                "weights": summary.weight_bytes,
                "bundle": summary.bundle_bytes,
                "installed": summary.installed_bytes,
            },
            runs=tuple(counted(profile.runs)),
            setting=Setting(
                profile.machine, profile.device, profile.threads, profile.files,
                profile.runs[0].audio_seconds,
            ),
        )
    )  # fmt: skip


def _scored(
    records: dict[str, tuple[Record, ...]], conditions: dict[str, ConditionedSplit], **known: Any
) -> Source:
    """Return a system whose texts are scored here, whatever figures its source has."""
    every = [record for of_split in records.values() for record in of_split]
    timed = all(record.seconds and record.duration for record in every)
    system = System(
        **known,
        overall=wer.summarize_errors(every),
        rates={split: wer.summarize_errors(of_split) for split, of_split in records.items()},
        languages=wer.by_language(every),
        rtf=sum(r.seconds for r in every) / sum(r.duration for r in every) if timed else None,
    )
    return Source(system, records, conditions)
