"""edgewhisper profile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgewhisper_runtime.bundle import AudioContext
from edgewhisper_runtime.cli import options
from edgewhisper_runtime.cli.values import Bundle

if TYPE_CHECKING:
    from edgewhisper_runtime.measure.figures import ProfileReport


@click.command(
    "profile",
    cls=options.Sectioned,
    examples=(
        "bundle/",
        "bundle/ --audio talk.wav -o profile.json",
    ),
)
@click.argument("bundle", type=Bundle())
@options.option(
    "Speech",
    "--audio",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Audio file to measure with (repeatable); a synthetic smoke set by default.",
)
@options.language(default="en")
@options.option(
    "Measuring",
    "--repeat",
    default=3,
    show_default=True,
    type=click.IntRange(1),
    metavar="N",
    help="How often, in a fresh process each time.",
)
@options.option(
    "Measuring",
    "--roofline",
    is_flag=True,
    help="Also: how close an ONNX bundle comes to this machine's peaks.",
)
@options.engine
@options.option(
    "Output", "--json", "as_json", is_flag=True, help="The whole report, all repetitions."
)
@options.option(
    "Output",
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File for the whole report as JSON.",
)
def command(
    bundle: Path,
    files: tuple[Path, ...],
    repeat: int,
    language: str,
    device: str,
    threads: int | None,
    audio_context: AudioContext | None,
    roofline: bool,
    as_json: bool,
    output: Path | None,
) -> None:
    """Measure real-time factor, memory and size of BUNDLE here, in fresh processes."""
    from edgewhisper_runtime.measure import profile as profiling

    if not files:
        files = tuple(sorted(profiling.SPEECH.rglob("*.opus")))
        click.echo(f"measuring with the synthetic smoke set, {len(files)} clips", err=True)
    report = profiling.profile(
        bundle,
        files,
        repetitions=repeat,
        device=device,
        threads=threads,
        language=language,
        audio_context=audio_context,
        with_roofline=roofline,
        on_progress=lambda done: click.echo(f"profile: {done} of {repeat} processes", err=True),
    )
    show(report, output, as_json=as_json)


def show(report: ProfileReport, output: Path | None, *, as_json: bool) -> None:
    """Print a report as a table or as JSON, and write it to a file where one is named."""
    from edgewhisper_runtime.bundle import atomic, to_json
    from edgewhisper_runtime.measure.figures import to_markdown

    if report.warning is not None:
        click.echo(f"warning: {report.warning}", err=True)
    text = json.dumps(to_json(report))
    if output:
        atomic.write_text(output, text + "\n")
    click.echo(text if as_json else to_markdown(report))
