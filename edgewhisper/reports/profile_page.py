"""The page of a profile: a bundle's speed, memory and size on a machine."""

from __future__ import annotations

from edgewhisper.reports import plots, provenance
from edgewhisper.reports.timing import blocks
from edgewhisper.reports.view import Block, Column, Figure, Folded, Page, Plot, Section, Table, Tone
from edgewhisper.reports.wording import describe, megabytes
from edgewhisper_runtime.errors import amount
from edgewhisper_runtime.measure.figures import ProfileReport, counted, undisturbed

_LARGEST = 8  # distributions in the plot


def page(report: ProfileReport) -> Page:
    """Return a profile's page."""
    summary, runs = report.summary, counted(report.runs)
    files = amount(len(report.files), "file")
    speed = blocks({report.bundle: runs}, f"{files}, {summary.audio_seconds:.0f} s of audio")
    quiet = bool(undisturbed(report.runs))
    verdict, tone = _verdict(summary.rtf) if quiet else ("the machine was busy", "open")
    return Page(
        title=report.bundle,
        verdict=verdict,
        tone=tone,
        sentence=(
            f"On {report.machine.cpu} with {report.threads} threads, {report.bundle} needs "
            f"{summary.rtf:.3f} s for a second of speech, {megabytes(summary.peak_rss_bytes)} of "
            f"memory at most, and {megabytes(summary.bundle_bytes + summary.installed_bytes)} of "
            f"disk with what it is installed with; "
            f"{'one run' if len(runs) == 1 else f'medians of {len(runs)} runs'}."
        ),
        figures=(
            Figure(f"{summary.rtf:.3f}", "real-time factor"),
            Figure(f"{summary.first_token_seconds:.2f} s", "first token", "after loading"),
            Figure(f"{summary.load_seconds:.2f} s", "load"),
            Figure(megabytes(summary.peak_rss_bytes), "peak memory"),
        ),
        sections=(
            Section("Speed and memory", tuple(speed)),
            Section("Size", _size(report)),
            Section("To repeat it", (_provenance(report),)),
        ),
        notes=() if report.warning is None else (report.warning,),
    )  # fmt: skip


def _verdict(rtf: float) -> tuple[str, Tone]:
    return ("faster than speech", "good") if rtf < 1 else ("slower than speech", "bad")


def _size(report: ProfileReport) -> tuple[Block, ...]:
    summary = report.summary
    sizes = {"bundle": summary.bundle_bytes} | report.installed
    largest = dict(sorted(sizes.items(), key=lambda item: -item[1])[:_LARGEST])
    described = ", ".join(f"{name} {megabytes(size)}" for name, size in largest.items())
    rows = tuple((name, megabytes(size)) for name, size in sizes.items())
    return (
        Plot(
            plots.bars({name: [size / 1e6] for name, size in largest.items()}, ("disk",), "MB"),
            f"The largest on disk: {described}.",
        ),
        Table(
            "On disk",
            (Column("what", numeric=False), Column("size")),
            (
                ("weights", megabytes(summary.weight_bytes)),
                ("whole bundle", megabytes(summary.bundle_bytes)),
                ("installed, without Python", megabytes(summary.installed_bytes)),
            ),
        ),
        Folded(
            "Every distribution",
            (Table("Installed", (Column("name", numeric=False), Column("size")), rows),),
        ),
    )


def _provenance(report: ProfileReport) -> Table:
    return provenance.table(
        {
            "machine": describe(report.machine),
            "threads": str(report.threads),
            "device": report.device,
            "language": report.language,
            "audio context": report.summary.audio_context,
            "files": ", ".join(report.files),
            "libraries": ", ".join(f"{name} {number}" for name, number in report.libraries.items()),
        }
    )
