"""The device's command line; the host's `edgewhisper` carries the same commands."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

import click

from edgewhisper_runtime.bundle import AudioContext
from edgewhisper_runtime.errors import (
    BundleError,
    EdgeWhisperError,
    StorageError,
    TranscriptError,
)
from edgewhisper_runtime.serve.command import serve

INTERRUPTED = 130  # 128 + SIGINT, as shells do
INTERNAL_ERROR = 70  # EX_SOFTWARE of sysexits.h

_BUNDLE = click.Path(path_type=Path)
_AUDIO_CONTEXT = click.option(
    "--audio-context",
    type=click.Choice(["full", "adaptive"]),
    help="Encode whole windows of 30 s, or what there is and a margin; the bundle's by default.",
)
_REMEDY = {
    "empty": "If it holds speech, look at its level and --language.",
    "looping": "The model failed on it; try a larger model or a less quantized variant.",
}


@click.group()
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="edgewhisper-runtime")
def group(debug: bool) -> None:
    """Run, verify and profile EdgeWhisper bundles on this machine."""


@group.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--bundle", type=_BUNDLE, envvar="EDGEWHISPER_BUNDLE", help="Bundle to run.")
@click.option("--language", help="Language code, such as en; detected when not given.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--threads", type=click.IntRange(1), help="Threads to compute with.")
@_AUDIO_CONTEXT
@click.option("--json", "as_json", is_flag=True, help="One JSON object per file and line.")
def transcribe(
    files: tuple[Path, ...],
    bundle: Path | None,
    language: str | None,
    device: str,
    threads: int | None,
    audio_context: AudioContext | None,
    as_json: bool,
) -> None:
    """Write the text of audio FILES to stdout; one bad file does not stop the others."""
    from edgewhisper_runtime.loading import load

    if bundle is None:
        raise BundleError(
            "no bundle is named and none was built here. Build one with "
            "`edgewhisper build --recipe quanto-int8`, or name one with --bundle DIR."
        )
    transcriber = load(bundle, device, threads, audio_context)
    failure: EdgeWhisperError | None = None
    for file in files:
        try:
            transcript = transcriber.transcribe(file, language=language)
            if as_json:
                record = {"file": str(file), "problem": transcript.problem, **asdict(transcript)}
                click.echo(json.dumps(record, ensure_ascii=False))
            else:
                click.echo(f"{file}: {transcript.text}" if len(files) > 1 else transcript.text)
            if transcript.problem:
                remedy = _REMEDY[transcript.problem]
                raise TranscriptError(f"the transcript of {file} is {transcript.problem}. {remedy}")
        except EdgeWhisperError as error:
            if len(files) == 1:
                raise
            click.echo(f"error: {error}", err=True)
            failure = failure or error
    if failure:
        sys.exit(failure.exit_code)


@group.command()
@click.argument("bundle", type=_BUNDLE)
@click.option("--json", "as_json", is_flag=True, help="The whole manifest.")
def verify(bundle: Path, as_json: bool) -> None:
    """Check every file of BUNDLE against its manifest."""
    from edgewhisper_runtime.bundle import verify as verify_bundle

    manifest = verify_bundle(bundle)
    if as_json:
        click.echo(json.dumps(asdict(manifest)))
        return
    total = sum(file.bytes for file in manifest.files.values())
    verdict = manifest.evaluation["verdict"] if manifest.evaluation else "did not run"
    click.echo(f"{manifest.name}: {len(manifest.files)} files intact, {total / 1e6:.1f} MB")
    click.echo(f"gate: {verdict}")


@group.command()
@click.argument("bundle", type=_BUNDLE)
@click.option("--json", "as_json", is_flag=True, help="The whole manifest.")
def info(bundle: Path, as_json: bool) -> None:
    """Say what BUNDLE is and what it was measured to do, without reading its weights."""
    from edgewhisper_runtime.bundle import read_manifest

    manifest = read_manifest(bundle)
    if as_json:
        click.echo(json.dumps(asdict(manifest)))
        return
    recipe, evaluation = manifest.recipe, manifest.evaluation
    rows = [
        ("model", str(manifest.model["name"])),
        ("recipe", f"{recipe['name']}: {recipe.get('summary', '')}"),
        ("engine", manifest.backend),
        ("audio context", manifest.audio_context),
        ("weights", f"{manifest.weight_bytes / 1e6:.1f} MB"),
        ("made", f"{manifest.created}, {_libraries(manifest.libraries)}"),
        ("gate", evaluation["verdict"] if evaluation else "did not run"),
    ]
    for split, found in evaluation["comparison"].items() if evaluation else ():
        wer = evaluation["variant"][split]["wer"] if evaluation else 0.0
        rows.append((f"WER {split}", f"{wer:.2f} % ({found['d']:+.2f} against fp32)"))
    width = max(len(name) for name, _ in rows)
    click.echo("\n".join([manifest.name, *(f"  {n:<{width}}  {v}" for n, v in rows)]))


def _libraries(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


@group.command()
@click.argument("bundle", type=_BUNDLE)
@click.option(
    "--audio",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Audio file to measure with (repeatable); a synthetic smoke set by default.",
)
@click.option("--repeat", default=3, show_default=True, type=click.IntRange(1), help="Processes.")
@click.option("--language", default="en", show_default=True, help="Language of the audio.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--threads", type=click.IntRange(1), help="Threads; all usable cores by default.")
@_AUDIO_CONTEXT
@click.option(
    "--roofline",
    is_flag=True,
    help="Also: how close an ONNX bundle comes to this machine's peaks.",
)
@click.option("--json", "as_json", is_flag=True, help="The whole report, all repetitions.")
def profile(
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
    from edgewhisper_runtime import profile as profiling

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
    click.echo(json.dumps(report) if as_json else profiling.to_markdown(report))


group.add_command(serve)


def run(command: click.Group, name: str) -> NoReturn:
    """Run the command line; every error ends in one line on stderr and its own exit code."""
    debug = "--debug" in sys.argv
    try:
        result = command.main(prog_name=name, standalone_mode=False)
        sys.exit(result if isinstance(result, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; what was finished is kept.", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if debug:
            raise
        if isinstance(error, EdgeWhisperError):
            click.echo(f"error: {error}", err=True)
            sys.exit(error.exit_code)
        if isinstance(error, OSError):  # the system refused: a full disk, a permission
            click.echo(f"error: {error.strerror or error}: {error.filename or 'no file'}", err=True)
            sys.exit(StorageError.exit_code)
        click.echo(
            f"error: unexpected {type(error).__name__}: {error}. This is a defect; "
            f"`{name} --debug ...` shows where.",
            err=True,
        )
        sys.exit(INTERNAL_ERROR)


def main() -> NoReturn:
    """Entry point of `edgewhisper-runtime`."""
    run(group, "edgewhisper-runtime")
