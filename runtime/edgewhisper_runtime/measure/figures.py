"""The figures of a profile: of one process, their medians, and the report around them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgewhisper_runtime.bundle import AudioContext
from edgewhisper_runtime.bundle.fields import Count, Duration, Seconds
from edgewhisper_runtime.errors import amount
from edgewhisper_runtime.measure import roofline
from edgewhisper_runtime.measure.conditions import Conditions
from edgewhisper_runtime.measure.machine import Machine
from edgewhisper_runtime.measure.roofline import Roofline


@dataclass(frozen=True)
class ProfileRun:
    """The figures of one process on a bundle, in seconds, bytes and numbers of decoder steps.

    `seconds` and `audio_seconds` have a value for each file. `first_token_seconds` is of the first
    file, which is transcribed once more before the others. `energy_joules` is what all processor
    packages used while the files were transcribed; `not_measurable` has the reason for each figure
    that this machine does not expose, by its name. `conditions` are None in reports of a version
    that did not watch the machine.
    """

    load_seconds: Seconds
    first_token_seconds: Seconds
    audio_seconds: tuple[Duration, ...]
    seconds: tuple[Seconds, ...]
    cpu_seconds: Seconds
    encoder_seconds: Seconds
    decoder_seconds: Seconds
    decoder_steps: Count
    peak_rss_load_bytes: Count
    peak_rss_bytes: Count
    peak_device_bytes: Count | None = None
    audio_context: AudioContext = "full"
    windows: Count = 0
    windows_encoded_again: dict[str, Count] = field(default_factory=dict)
    energy_joules: float | None = None
    conditions: Conditions | None = None
    not_measurable: dict[str, str] = field(default_factory=dict)

    @property
    def disturbed(self) -> bool:
        """Whether the machine was busy with other work or throttled, so that times do not count."""
        return self.conditions is not None and self.conditions.disturbed

    @property
    def rtf(self) -> float:
        """The real-time factor: seconds of work for a second of audio, over all files."""
        return sum(self.seconds) / sum(self.audio_seconds)


@dataclass(frozen=True)
class ProfileSummary:
    """Medians over the runs of one bundle; sizes in bytes.

    They are of the undisturbed runs, `repetitions - disturbed` of them; of all runs where every one
    was disturbed. `ranges` has the lowest and the highest value of each median, by its name.
    """

    rtf: float
    rtf_file_median: float
    rtf_file_p90: float
    load_seconds: float
    first_token_seconds: float
    tokens_per_second: float
    encoder_share: float
    decoder_share: float
    cpu_seconds_per_audio_second: float
    peak_rss_load_bytes: float
    peak_rss_bytes: float
    peak_device_bytes: float | None
    energy_joules_per_audio_second: float | None
    ranges: dict[str, tuple[float, float]]
    audio_seconds: float
    repetitions: int
    disturbed: int
    audio_context: AudioContext
    windows: int
    windows_encoded_again: dict[str, int]
    weight_bytes: int
    bundle_bytes: int
    installed_bytes: int


@dataclass(frozen=True)
class ProfileReport:
    """A bundle on this machine: the summary, every run, and what they were measured with.

    `installed` has the bytes of each distribution that the bundle needs; `roofline` is None where
    it was not asked for, or not measurable. `not_measurable` has the reasons, by the names of the
    figures.
    """

    bundle: str
    device: str
    threads: int
    language: str
    summary: ProfileSummary
    machine: Machine
    libraries: dict[str, str]
    installed: dict[str, int]
    roofline: Roofline | None
    files: tuple[str, ...]
    runs: tuple[ProfileRun, ...]
    not_measurable: dict[str, str] = field(default_factory=dict)

    @property
    def warning(self) -> str | None:
        """What disturbed the runs, on one line; None where nothing did."""
        disturbed = [run.conditions for run in self.runs if run.conditions and run.disturbed]
        if not disturbed:
            return None
        worst = max(disturbed, key=lambda conditions: conditions.other_processors or 0.0)
        text = f"{len(disturbed)} of {len(self.runs)} runs were disturbed: {worst}"
        if len(disturbed) < len(self.runs):
            return f"{text}. They are left out of the figures."
        return f"{text}. Measure again on a quiet, cool machine."


_NAMES = {  # of figures that some machines do not expose
    "energy_joules": "Energy",
    "throttled": "Throttling",
    "temperature_celsius": "Temperature",
    "other_processors": "Other work",
    "roofline": "Roofline",
}
_MEDIANS: dict[str, Callable[[ProfileRun], float]] = {
    "rtf": lambda run: run.rtf,
    "load_seconds": lambda run: run.load_seconds,
    "first_token_seconds": lambda run: run.first_token_seconds,
    "tokens_per_second": lambda run: run.decoder_steps / run.decoder_seconds,
    "encoder_share": lambda run: run.encoder_seconds / sum(run.seconds),
    "decoder_share": lambda run: run.decoder_seconds / sum(run.seconds),
    "cpu_seconds_per_audio_second": lambda run: run.cpu_seconds / sum(run.audio_seconds),
    "peak_rss_load_bytes": lambda run: run.peak_rss_load_bytes,
    "peak_rss_bytes": lambda run: run.peak_rss_bytes,
}
_OPTIONAL: dict[str, Callable[[ProfileRun], float | None]] = {
    "peak_device_bytes": lambda run: run.peak_device_bytes,
    "energy_joules_per_audio_second": lambda run: (
        None if run.energy_joules is None else run.energy_joules / sum(run.audio_seconds)
    ),
}


def summarize(
    runs: Sequence[ProfileRun], weight_bytes: int, bundle_bytes: int, installed_bytes: int
) -> ProfileSummary:
    """Return the medians of one bundle's runs, one or more, beside its sizes."""
    first = runs[0]
    kept = counted(runs)
    by_file = [s / a for run in kept for s, a in zip(run.seconds, run.audio_seconds, strict=True)]
    values = {name: [figure(run) for run in kept] for name, figure in _MEDIANS.items()}
    optional = {
        name: [value for run in kept if (value := figure(run)) is not None]
        for name, figure in _OPTIONAL.items()
    }
    measured = values | {name: of_runs for name, of_runs in optional.items() if of_runs}
    medians = {name: statistics.median(of_runs) for name, of_runs in measured.items()}
    return ProfileSummary(
        **{name: medians[name] for name in _MEDIANS},
        peak_device_bytes=medians.get("peak_device_bytes"),
        energy_joules_per_audio_second=medians.get("energy_joules_per_audio_second"),
        rtf_file_median=float(np.median(by_file)),
        rtf_file_p90=float(np.percentile(by_file, 90)),
        ranges={name: (min(of_runs), max(of_runs)) for name, of_runs in measured.items()},
        audio_seconds=sum(first.audio_seconds),
        repetitions=len(runs),
        disturbed=sum(run.disturbed for run in runs),
        audio_context=first.audio_context,
        windows=first.windows,
        windows_encoded_again=first.windows_encoded_again,
        weight_bytes=weight_bytes,
        bundle_bytes=bundle_bytes,
        installed_bytes=installed_bytes,
    )


def undisturbed(runs: Sequence[ProfileRun]) -> Sequence[ProfileRun]:
    """Return the runs of a quiet machine."""
    return [run for run in runs if not run.disturbed]


def counted(runs: Sequence[ProfileRun]) -> Sequence[ProfileRun]:
    """Return the runs whose figures count: the undisturbed ones, all where every one was."""
    return undisturbed(runs) or runs


def to_markdown(report: ProfileReport) -> str:
    """Return the report's summary as a Markdown table, one figure a line."""
    figures, host = report.summary, report.machine
    context: str = figures.audio_context
    if context == "adaptive":
        again = figures.windows_encoded_again
        share = sum(again.values()) / figures.windows
        reasons = ", ".join(f"{count} {reason}" for reason, count in again.items())
        context += f", {share:.0%} of {figures.windows} windows encoded again ({reasons})"
    files = amount(len(report.files), "file")
    audio = f"{files}, {figures.audio_seconds:.1f} s"

    def spread(name: str, digits: int, unit: str = "", scale: float = 1) -> str:
        values = (getattr(figures, name), *figures.ranges[name])
        middle, low, high = (f"{value / scale:.{digits}f}" for value in values)
        return f"{middle}{unit} ({low} to {high})"

    rows = [
        ("Real-time factor (all audio)", spread("rtf", 3)),
        ("RTF per file: median, p90", f"{figures.rtf_file_median:.3f}, {figures.rtf_file_p90:.3f}"),
        ("Load time", spread("load_seconds", 2, " s")),
        ("Time to first token", spread("first_token_seconds", 2, " s")),
        ("Decoder tokens per second", spread("tokens_per_second", 1)),
        (
            "Share of time: encoder, decoder",
            f"{figures.encoder_share:.0%}, {figures.decoder_share:.0%}",
        ),
        ("CPU seconds per audio second", spread("cpu_seconds_per_audio_second", 3)),
        ("Peak RSS after load", spread("peak_rss_load_bytes", 1, " MB", 1e6)),
        ("Peak RSS in all", spread("peak_rss_bytes", 1, " MB", 1e6)),
        ("Audio context", context),
        ("Weights", _megabytes(figures.weight_bytes)),
        ("Whole bundle", _megabytes(figures.bundle_bytes)),
        ("Installed closure, without Python", _megabytes(figures.installed_bytes)),
    ]
    if figures.peak_device_bytes is not None:
        rows.append(("Peak memory on the device", _megabytes(figures.peak_device_bytes)))
    if figures.energy_joules_per_audio_second is not None:
        rows.append(("Energy per audio second", spread("energy_joules_per_audio_second", 2, " J")))
    if report.roofline is not None:
        rows += roofline.to_rows(report.roofline)
    rows += [
        (_NAMES[name], f"not measurable: {why}")
        for name, why in report.not_measurable.items()
        if name in _NAMES
    ]
    if report.warning is not None:
        rows.append(("Warning", report.warning))
    rows += [
        ("Device, threads", f"{report.device}, {report.threads}"),
        ("CPU", f"{host.cpu} ({', '.join(host.isa)})"),
        ("Libraries", ", ".join(f"{name} {version}" for name, version in _main_libraries(report))),
        ("Audio", f"{audio}, {_processes(figures)}"),
    ]
    width = max(len(name) for name, _ in rows)
    lines = [f"| {report.bundle:<{width}} | |", f"|{'-' * (width + 2)}|---|"]
    return "\n".join(lines + [f"| {name:<{width}} | {value} |" for name, value in rows])


def _processes(figures: ProfileSummary) -> str:
    kept = figures.repetitions - figures.disturbed or figures.repetitions
    processes = "1 fresh process" if kept == 1 else f"{kept} fresh processes"
    return f"{processes}: median (lowest to highest)"


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.1f} MB"


def _main_libraries(report: ProfileReport) -> list[tuple[str, str]]:
    """Return the five largest installed distributions with their versions: the engine's."""
    names = [name for name in report.installed if name in report.libraries][:5]
    return [(name, report.libraries[name]) for name in names]
