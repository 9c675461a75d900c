"""The figures of a profile: of one process, their medians, and the report around them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgewhisper_runtime.bundle import AudioContext
from edgewhisper_runtime.bundle.fields import Count, Duration, Seconds
from edgewhisper_runtime.measure import roofline
from edgewhisper_runtime.measure.machine import Machine


@dataclass(frozen=True)
class ProfileRun:
    """The figures of one process on a bundle, in seconds, bytes and numbers of decoder steps.

    `seconds` and `audio_seconds` have a value for each file. `first_token_seconds` is of the first
    file, which is transcribed once more before the others.
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

    @property
    def rtf(self) -> float:
        """The real-time factor: seconds of work for a second of audio, over all files."""
        return sum(self.seconds) / sum(self.audio_seconds)


@dataclass(frozen=True)
class ProfileSummary:
    """Medians over the runs of one bundle; sizes in bytes."""

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
    audio_seconds: float
    repetitions: int
    audio_context: AudioContext
    windows: int
    windows_encoded_again: dict[str, int]
    weight_bytes: int
    bundle_bytes: int
    installed_bytes: int


@dataclass(frozen=True)
class ProfileReport:
    """A bundle on this machine: the summary, every run, and what they were measured with.

    `installed` has the bytes of each distribution that the bundle needs; `roofline` is the JSON of
    `roofline.measure`, None where it was not asked for.
    """

    bundle: str
    device: str
    threads: int
    language: str
    summary: ProfileSummary
    machine: Machine
    libraries: dict[str, str]
    installed: dict[str, int]
    roofline: dict[str, Any] | None
    files: tuple[str, ...]
    runs: tuple[ProfileRun, ...]


def summarize(
    runs: Sequence[ProfileRun], weight_bytes: int, bundle_bytes: int, installed_bytes: int
) -> ProfileSummary:
    """Return the medians of one bundle's runs, one or more, beside its sizes."""

    def median(figure: Callable[[ProfileRun], float]) -> float:
        return statistics.median(map(figure, runs))

    first = runs[0]
    by_file = [s / a for run in runs for s, a in zip(run.seconds, run.audio_seconds, strict=True)]
    on_device = [run.peak_device_bytes for run in runs if run.peak_device_bytes is not None]
    return ProfileSummary(
        rtf=median(lambda run: run.rtf),
        rtf_file_median=float(np.median(by_file)),
        rtf_file_p90=float(np.percentile(by_file, 90)),
        load_seconds=median(lambda run: run.load_seconds),
        first_token_seconds=median(lambda run: run.first_token_seconds),
        tokens_per_second=median(lambda run: run.decoder_steps / run.decoder_seconds),
        encoder_share=median(lambda run: run.encoder_seconds / sum(run.seconds)),
        decoder_share=median(lambda run: run.decoder_seconds / sum(run.seconds)),
        cpu_seconds_per_audio_second=median(lambda run: run.cpu_seconds / sum(run.audio_seconds)),
        peak_rss_load_bytes=median(lambda run: run.peak_rss_load_bytes),
        peak_rss_bytes=median(lambda run: run.peak_rss_bytes),
        peak_device_bytes=statistics.median(on_device) if on_device else None,
        audio_seconds=sum(first.audio_seconds),
        repetitions=len(runs),
        audio_context=first.audio_context,
        windows=first.windows,
        windows_encoded_again=first.windows_encoded_again,
        weight_bytes=weight_bytes,
        bundle_bytes=bundle_bytes,
        installed_bytes=installed_bytes,
    )


def to_markdown(report: ProfileReport) -> str:
    """Return the report's summary as a Markdown table, one figure a line."""
    figures, host = report.summary, report.machine
    context: str = figures.audio_context
    if context == "adaptive":
        again = figures.windows_encoded_again
        share = sum(again.values()) / figures.windows
        reasons = ", ".join(f"{count} {reason}" for reason, count in again.items())
        context += f", {share:.0%} of {figures.windows} windows encoded again ({reasons})"
    audio = f"{len(report.files)} files, {figures.audio_seconds:.1f} s"
    rows = [
        ("Real-time factor (all audio)", f"{figures.rtf:.3f}"),
        ("RTF per file: median, p90", f"{figures.rtf_file_median:.3f}, {figures.rtf_file_p90:.3f}"),
        ("Load time", f"{figures.load_seconds:.2f} s"),
        ("Time to first token", f"{figures.first_token_seconds:.2f} s"),
        ("Decoder tokens per second", f"{figures.tokens_per_second:.1f}"),
        (
            "Share of time: encoder, decoder",
            f"{figures.encoder_share:.0%}, {figures.decoder_share:.0%}",
        ),
        ("CPU seconds per audio second", f"{figures.cpu_seconds_per_audio_second:.3f}"),
        (
            "Peak RSS: after load, in all",
            f"{_megabytes(figures.peak_rss_load_bytes)}, {_megabytes(figures.peak_rss_bytes)}",
        ),
        ("Audio context", context),
        ("Weights", _megabytes(figures.weight_bytes)),
        ("Whole bundle", _megabytes(figures.bundle_bytes)),
        ("Installed closure, without Python", _megabytes(figures.installed_bytes)),
    ]
    if figures.peak_device_bytes is not None:
        rows.append(("Peak memory on the device", _megabytes(figures.peak_device_bytes)))
    if report.roofline is not None:
        rows += roofline.to_rows(report.roofline)
    rows += [
        ("Device, threads", f"{report.device}, {report.threads}"),
        ("CPU", f"{host.cpu} ({', '.join(host.isa)})"),
        ("Libraries", ", ".join(f"{name} {version}" for name, version in _main_libraries(report))),
        ("Audio", f"{audio}, {figures.repetitions} fresh processes"),
    ]
    width = max(len(name) for name, _ in rows)
    lines = [f"| {report.bundle:<{width}} | |", f"|{'-' * (width + 2)}|---|"]
    return "\n".join(lines + [f"| {name:<{width}} | {value} |" for name, value in rows])


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.1f} MB"


def _main_libraries(report: ProfileReport) -> list[tuple[str, str]]:
    """Return the five largest installed distributions with their versions: the engine's."""
    names = [name for name in report.installed if name in report.libraries][:5]
    return [(name, report.libraries[name]) for name in names]
