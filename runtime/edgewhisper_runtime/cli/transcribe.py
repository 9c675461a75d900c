"""edgewhisper transcribe."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgewhisper_runtime.bundle import AudioContext
from edgewhisper_runtime.bundle.atomic import storage_errors, write_text
from edgewhisper_runtime.cli import live as listening
from edgewhisper_runtime.cli import options, recordings, streams
from edgewhisper_runtime.errors import (
    BundleError,
    EdgeWhisperError,
    StorageError,
    TranscriptError,
    printable,
)
from edgewhisper_runtime.options import Options
from edgewhisper_runtime.text.writers import WRITERS

if TYPE_CHECKING:
    from edgewhisper_runtime.transcriber import Transcriber
    from edgewhisper_runtime.transcript import Transcript

_TIMED_FORMATS = {"srt", "vtt", "tsv"}
_REMEDY = {
    "empty": "If it holds speech, look at its level and --language.",
    "looping": "The model failed on it; try a larger model or a less quantized variant.",
}
_CLEAR_LINE = "\r\x1b[K"
_LONGEST_NAME = 255  # bytes of a file name, in nearly all file systems


@dataclass(frozen=True)
class _Job:
    """A recording, and the file for each format; None for stdout."""

    recording: recordings.Input
    outputs: dict[str, Path | None]

    def is_done(self) -> bool:
        """Whether every output is there and no older than the recording."""
        path = self.recording.path
        if path is None:
            return False
        try:
            changed = path.stat().st_mtime_ns
            return path.is_file() and all(  # a pipe brings something else each time
                out and out.is_file() and out.stat().st_mtime_ns >= changed
                for out in self.outputs.values()
            )
        except OSError:  # it is not there: reading it gives the better error
            return False

    @property
    def on_stdout(self) -> bool:
        """Whether the transcript goes to stdout."""
        return None in self.outputs.values()


@click.command("transcribe", cls=options.Sectioned)
@click.argument("files", nargs=-1)
@listening.sources
@options.option(
    "Output",
    "--output-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write a file for each of FILES and each format here; else, the text goes to stdout.",
)
@options.option(
    "Output",
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(list(WRITERS)),
    help="Format to write (repeatable); txt by default.",
)
@options.option("Output", "--json", "as_json", is_flag=True, help="The same as --format json.")
@options.option(
    "Output", "--overwrite", is_flag=True, help="Do again what is there and up to date already."
)
@options.option(
    "Engine",
    "--bundle",
    type=click.Path(path_type=Path),
    envvar="EDGEWHISPER_BUNDLE",
    help="Bundle to run.",
)
@options.engine
@options.language()
@options.option(
    "Speech",
    "--task",
    type=click.Choice(["transcribe", "translate"]),
    default="transcribe",
    show_default=True,
    help="Write what is said, or what it means in English.",
)
@options.decoding
def command(
    files: tuple[str, ...],
    mic: bool,
    input_device: str | None,
    live: bool,
    output_dir: Path | None,
    formats: tuple[str, ...],
    as_json: bool,
    overwrite: bool,
    bundle: Path | None,
    device: str,
    threads: int | None,
    audio_context: AudioContext | None,
    language: str | None,
    task: str,
    timestamps: bool | None,
    **decoding: Any,
) -> None:
    """Write what is said in FILES, or while it is being said.

    FILES are audio files, directories (all audio in them and below), patterns such as
    'talks/**/*.flac', or - for an audio file on stdin. One that fails does not stop the others;
    what --output-dir has already is not done again. With --mic or --live there are no FILES.
    """
    from edgewhisper_runtime.live import Live
    from edgewhisper_runtime.loading import load

    inputs = [] if mic or live else recordings.find(files)
    if bundle is None:
        raise BundleError(
            "no bundle is named and none was built here. Build one with "
            "`edgewhisper build --recipe quanto-int8`, or name one with --bundle DIR."
        )
    if source := listening.open_source(mic, input_device, live):
        with source, listening.stopped_by_signals(source):
            transcriber = load(bundle, device, threads, audio_context)
            live_text = Live(transcriber, Options(language=language, task=task, **decoding))
            listening.listen(source, live_text, as_json)
        return
    chosen_formats = set(formats) | ({"json"} if as_json else set()) or {"txt"}
    timestamps = chosen_formats != {"txt"} if timestamps is None else timestamps
    decoding_options = Options(language=language, task=task, timestamps=timestamps, **decoding)
    _check_formats(chosen_formats, timestamps, to_stdout=output_dir is None, count=len(inputs))
    planned = _plan(inputs, chosen_formats, output_dir)
    jobs = planned if overwrite else _undone(planned)
    if not jobs:
        return
    if output_dir is not None:
        _check_directory(output_dir)
    transcriber = load(bundle, device, threads, audio_context)
    with ExitStack() as stack:
        paths = [stack.enter_context(job.recording.opened()) for job in jobs]
        if len(inputs) == 1:
            transcripts = _transcribe_one(transcriber, paths[0], decoding_options)
        else:
            transcripts = transcriber.transcribe_many(paths, decoding_options)
        failures = _write_all(jobs, paths, transcripts, several=len(inputs) > 1)
    if failures:
        if len(inputs) > 1:
            names = ", ".join(job.recording.label for job, _ in failures)
            streams.say(f"{len(failures)} of {len(jobs)} failed: {names}")
        sys.exit(failures[0][1])


def _transcribe_one(
    transcriber: Transcriber, path: Path, decoding_options: Options
) -> Iterator[Transcript | Exception]:
    """Transcribe, on a terminal with a progress bar over the seconds of the file."""
    from edgewhisper_runtime.audio import duration

    shown = sys.stderr.isatty()
    outcome: Transcript | Exception
    try:
        length = round(duration(path)) if shown else 0
        with click.progressbar(
            length=length, label="transcribing", file=sys.stderr, hidden=not shown
        ) as bar:
            outcome = transcriber.transcribe(
                path,
                decoding_options,
                on_segment=lambda segment: bar.update(round(segment.end) - bar.pos),
            )
    except Exception as error:  # noqa: BLE001 # it is reported
        outcome = error
    yield outcome


def _write_all(
    jobs: Sequence[_Job],
    paths: Sequence[Path],
    transcripts: Iterator[Transcript | Exception],
    several: bool,
) -> list[tuple[_Job, int]]:
    """Write the transcripts in order; return the jobs that failed, with their exit codes."""
    failures = []
    # Text on the same terminal would break up the progress bar.
    shown = several and sys.stderr.isatty() and not (jobs[0].on_stdout and sys.stdout.isatty())
    before = _CLEAR_LINE if shown else ""
    begin = time.perf_counter()
    with click.progressbar(
        jobs, label="transcribing", show_pos=True, file=sys.stderr, hidden=not shown
    ) as progress:
        for job, path, transcript in zip(progress, paths, transcripts, strict=True):
            seconds = time.perf_counter() - begin
            if isinstance(transcript, Exception):
                errors = iter([_named(transcript, path, job)])
            else:
                errors = _write(job, transcript, seconds, prefixed=several)
            codes = [streams.report(error, job.recording.label, before) for error in errors]
            failures += [(job, code) for code in codes[:1]]
            begin = time.perf_counter()
    return failures


def _write(
    job: _Job, transcript: Transcript, seconds: float, prefixed: bool
) -> Iterator[Exception]:
    """Write a transcript in its formats; yield its problem, and the errors of writing it.

    Raises an error that would stop the next transcript too.
    """
    label = job.recording.label
    for name, path in job.outputs.items():
        try:
            text = WRITERS[name](transcript, file=label, seconds=round(seconds, 3))
            if path:
                write_text(path, text)
            else:
                prefix = f"{printable(label)}: " if prefixed and name == "txt" else ""
                click.echo(prefix + text, nl=False)
        except Exception as error:
            if _ends_job(error, job):
                raise
            yield error
    if transcript.problem:
        yield TranscriptError(
            f"the transcript of {label} is {transcript.problem}. {_REMEDY[transcript.problem]}"
        )


def _named(error: Exception, path: Path, job: _Job) -> Exception:
    """Return the error with the user's name of the recording: stdin's file is temporary."""
    if isinstance(error, EdgeWhisperError):
        error.args = (str(error).replace(str(path), job.recording.label),)
    return error


def _ends_job(error: Exception, job: _Job) -> bool:
    """Tell whether the next transcript would fail too: stdout refuses it, or the disk is full."""
    cause = error.__cause__ if isinstance(error, StorageError) else error
    full = {errno.ENOSPC, errno.EDQUOT}
    return isinstance(cause, OSError) and (job.on_stdout or cause.errno in full)


def _check_formats(formats: set[str], timestamps: bool, to_stdout: bool, count: int) -> None:
    timed = sorted(formats & _TIMED_FORMATS)
    if timed and not timestamps:
        raise click.UsageError(f"{timed[0]} is made of times; leave out --no-timestamps.")
    if to_stdout and len(formats) > 1:
        raise click.UsageError("stdout takes one format; for more, add --output-dir DIR.")
    if to_stdout and timed and count > 1:
        raise click.UsageError(
            f"stdout takes the {timed[0]} of one file; for {count}, add --output-dir DIR."
        )


def _plan(
    inputs: Sequence[recordings.Input], formats: set[str], output_dir: Path | None
) -> list[_Job]:
    """Return the jobs; raise UsageError where one would overwrite another's input or output."""
    if output_dir is None:
        return [_Job(recording, dict.fromkeys(formats)) for recording in inputs]
    # Path.resolve raises for a loop of links, which must fail that recording only.
    paths = {os.path.realpath(recording.path) for recording in inputs if recording.path}
    owners: dict[Path, recordings.Input] = {}
    jobs = []
    for recording in inputs:
        target = output_dir / recording.name
        outputs: dict[str, Path | None] = {}
        for name in sorted(formats):
            output = outputs[name] = _output(target, f".{name}")
            if os.path.realpath(output) in paths:
                message = (
                    f"{output} is to be transcribed, and would be overwritten. Choose another "
                    "--output-dir."
                )
                raise click.UsageError(printable(message))
            other = owners.setdefault(output, recording)
            if other is not recording:
                message = (
                    f"{other.label} and {recording.label} would both be written to {output}. "
                    "Name each recording once, rename one, or name the directory above them."
                )
                raise click.UsageError(printable(message))
        jobs.append(_Job(recording, outputs))
    return jobs


def _output(target: Path, suffix: str) -> Path:
    """Return the target with another suffix; where the name is too long, its stem is cut."""
    stem = target.stem
    while len(os.fsencode(stem + suffix)) > _LONGEST_NAME:
        stem = stem[:-1]
    return target.with_name(stem + suffix)


def _undone(jobs: Sequence[_Job]) -> list[_Job]:
    waiting = []
    for job in jobs:
        if job.is_done():
            streams.say(
                f"{job.recording.label}: skipped, its transcript is there and newer; "
                "--overwrite does it again"
            )
        else:
            waiting.append(job)
    return waiting


def _check_directory(path: Path) -> None:
    """Raise StorageError now for a directory that would refuse the first transcript."""
    with storage_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
