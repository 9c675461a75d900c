"""edgewhisper profile."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgewhisper_runtime.bundle import AudioContext
from edgewhisper_runtime.cli import options


@click.command("profile")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--audio",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Audio file to measure with (repeatable); a synthetic smoke set by default.",
)
@click.option("--repeat", default=3, show_default=True, type=click.IntRange(1), help="Processes.")
@options.language(default="en")
@options.engine
@click.option(
    "--roofline",
    is_flag=True,
    help="Also: how close an ONNX bundle comes to this machine's peaks.",
)
@click.option("--json", "as_json", is_flag=True, help="The whole report, all repetitions.")
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
) -> None:
    """Measure real-time factor, memory and size of BUNDLE here, in fresh processes."""
    from edgewhisper_runtime.bundle import to_json
    from edgewhisper_runtime.measure import profile as profiling
    from edgewhisper_runtime.measure.figures import to_markdown

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
    if report.warning is not None:
        click.echo(f"warning: {report.warning}", err=True)
    click.echo(json.dumps(to_json(report)) if as_json else to_markdown(report))
