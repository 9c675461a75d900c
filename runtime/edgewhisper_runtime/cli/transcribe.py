"""edgewhisper transcribe."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgewhisper_runtime.bundle import AudioContext
from edgewhisper_runtime.bundle.atomic import storage_errors, write_text
from edgewhisper_runtime.cli import live as listening
from edgewhisper_runtime.cli import options, recordings
from edgewhisper_runtime.errors import (
    AudioError,
    BundleError,
    EdgeWhisperError,
    StorageError,
    TranscriptError,
)
from edgewhisper_runtime.options import Options
from edgewhisper_runtime.text.writers import WRITERS

if TYPE_CHECKING:
    from edgewhisper_runtime.transcriber import Transcriber
    from edgewhisper_runtime.transcript import Transcript

_MADE_OF_TIMES = {"srt", "vtt", "tsv"}
_REMEDY = {
    "empty": "If it holds speech, look at its level and --language.",
    "looping": "The model failed on it; try a larger model or a less quantized variant.",
}
_CLEAR_LINE = "\r\x1b[K"


@dataclass(frozen=True)
class _Job:
    """A recording, and the file for each format; none when the text goes to stdout."""

    recording: recordings.Recording
    outputs: dict[str, Path]

    def is_done(self) -> bool:
        """Whether every output is there and no older than the recording."""
        path = self.recording.path
        if path is None or not self.outputs:
            return False
        try:
            changed = path.stat().st_mtime_ns
            return all(out.stat().st_mtime_ns >= changed for out in self.outputs.values())
        except OSError:  # not there; the work itself says so better
            return False


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

    found = [] if mic or live else recordings.find(files)
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
    wanted = set(formats) | ({"json"} if as_json else set()) or {"txt"}
    timestamps = wanted != {"txt"} if timestamps is None else timestamps
    decoded_with = Options(language=language, task=task, timestamps=timestamps, **decoding)
    _check_formats(wanted, timestamps, to_stdout=output_dir is None, count=len(found))
    planned = _plan(found, wanted, output_dir)
    jobs = planned if overwrite else _undone(planned)
    if not jobs:
        return
    if output_dir is not None:
        _check_directory(output_dir)
    transcriber = load(bundle, device, threads, audio_context)

    def write(job: _Job, transcript: Transcript | AudioError, seconds: float) -> None:
        if isinstance(transcript, AudioError):
            path = paths[jobs.index(job)]  # stdin's is temporary
            raise AudioError(str(transcript).replace(str(path), job.recording.label))
        for name in sorted(wanted):
            text = WRITERS[name](transcript, file=job.recording.label, seconds=round(seconds, 3))
            _write(job, name, text, prefixed=name == "txt" and len(found) > 1)
        _check_transcript(transcript, job.recording.label)

    begin = time.perf_counter()
    with ExitStack() as stack:
        paths = [stack.enter_context(job.recording.opened()) for job in jobs]
        if len(found) == 1:
            transcript = _transcribe_one(transcriber, paths[0], decoded_with)
            write(jobs[0], transcript, time.perf_counter() - begin)
            return
        transcripts = transcriber.transcribe_many(paths, decoded_with)
        failures = _write_all(jobs, transcripts, write)
    if failures:
        names = ", ".join(job.recording.label for job, _ in failures)
        click.echo(f"{len(failures)} of {len(jobs)} failed: {names}", err=True)
        sys.exit(failures[0][1].exit_code)


def _transcribe_one(
    transcriber: Transcriber, path: Path, decoded_with: Options
) -> Transcript | AudioError:
    """Transcribe, on a terminal with a progress bar over the seconds of the file."""
    from edgewhisper_runtime.audio import duration

    shown = sys.stderr.isatty()
    length = round(duration(path)) if shown else 0
    with click.progressbar(
        length=length, label="transcribing", file=sys.stderr, hidden=not shown
    ) as bar:
        try:
            return transcriber.transcribe(
                path,
                decoded_with,
                on_segment=lambda segment: bar.update(round(segment.end) - bar.pos),
            )
        except AudioError as error:
            return error


def _write_all(
    jobs: Sequence[_Job],
    transcripts: Iterable[Transcript | AudioError],
    write: Callable[[_Job, Transcript | AudioError, float], None],
) -> list[tuple[_Job, EdgeWhisperError]]:
    """Write one transcript after the other, and return those that failed."""
    failures = []
    # Text that goes to the same terminal would tear a bar to pieces.
    shown = sys.stderr.isatty() and (bool(jobs[0].outputs) or not sys.stdout.isatty())
    begin = time.perf_counter()
    with click.progressbar(
        jobs, label="transcribing", show_pos=True, file=sys.stderr, hidden=not shown
    ) as progress:
        for job, transcript in zip(progress, transcripts, strict=True):
            end = time.perf_counter()
            try:
                write(job, transcript, end - begin)
            except StorageError:  # what refuses one file refuses the next
                raise
            except EdgeWhisperError as error:
                click.echo(f"{_CLEAR_LINE if shown else ''}error: {error}", err=True)
                failures.append((job, error))
            begin = time.perf_counter()
    return failures


def _check_formats(wanted: set[str], timestamps: bool, to_stdout: bool, count: int) -> None:
    timed = sorted(wanted & _MADE_OF_TIMES)
    if timed and not timestamps:
        raise click.UsageError(f"{timed[0]} is made of times; leave out --no-timestamps.")
    if to_stdout and len(wanted) > 1:
        raise click.UsageError("stdout takes one format; for more, add --output-dir DIR.")
    if to_stdout and timed and count > 1:
        raise click.UsageError(
            f"stdout takes the {timed[0]} of one file; for {count}, add --output-dir DIR."
        )


def _plan(
    found: Sequence[recordings.Recording], wanted: set[str], output_dir: Path | None
) -> list[_Job]:
    """Return the jobs; raise UsageError where one would overwrite another's input or output."""
    if output_dir is None:
        return [_Job(recording, {}) for recording in found]
    inputs = {recording.path.resolve() for recording in found if recording.path}
    owners: dict[Path, recordings.Recording] = {}
    jobs = []
    for recording in found:
        target = output_dir / recording.name
        outputs = {name: target.with_suffix(f".{name}") for name in sorted(wanted)}
        for output in outputs.values():
            if output.resolve() in inputs:
                raise click.UsageError(
                    f"{output} is to be transcribed, and would be overwritten. Choose another "
                    "--output-dir."
                )
            other = owners.setdefault(output, recording)
            if other is not recording:
                raise click.UsageError(
                    f"{other.label} and {recording.label} would both be written to {output}. "
                    "Name each recording once, rename one, or name the directory above them."
                )
        jobs.append(_Job(recording, outputs))
    return jobs


def _undone(jobs: Sequence[_Job]) -> list[_Job]:
    waiting = []
    for job in jobs:
        if job.is_done():
            click.echo(
                f"{job.recording.label}: skipped, its transcript is there and newer; "
                "--overwrite does it again",
                err=True,
            )
        else:
            waiting.append(job)
    return waiting


def _check_directory(path: Path) -> None:
    """Raise StorageError now for a directory that would refuse the first transcript."""
    with storage_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()


def _write(job: _Job, name: str, text: str, prefixed: bool) -> None:
    if job.outputs:
        write_text(job.outputs[name], text)
    else:
        click.echo(f"{job.recording.label}: {text}" if prefixed else text, nl=False)


def _check_transcript(transcript: Transcript, label: str) -> None:
    if transcript.problem:
        raise TranscriptError(
            f"the transcript of {label} is {transcript.problem}. {_REMEDY[transcript.problem]}"
        )
