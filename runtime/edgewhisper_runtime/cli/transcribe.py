"""edgewhisper transcribe."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgewhisper_runtime.bundle import AudioContext
from edgewhisper_runtime.bundle.atomic import FULL, write_text
from edgewhisper_runtime.cli import jobs, options, recordings, streams
from edgewhisper_runtime.cli import live as listening
from edgewhisper_runtime.cli.values import Bundle, OutputDirectory
from edgewhisper_runtime.errors import (
    BundleError,
    EdgeWhisperError,
    StorageError,
    TranscriptError,
    printable,
)
from edgewhisper_runtime.options import Options, Task
from edgewhisper_runtime.text.subtitles import STANDARD, Layout
from edgewhisper_runtime.text.writers import WRITERS, clock

if TYPE_CHECKING:
    from edgewhisper_runtime.transcriber import Transcriber
    from edgewhisper_runtime.transcript import Segment, Transcript

_REMEDY = {
    "empty": "If it holds speech, look at its level and --language.",
    "looping": "The model failed on it; try a larger model or a less quantized variant.",
}
_ALL = "all"
_CLEAR_LINE = "\r\x1b[K"
_Failure = tuple[str, int]  # what failed, and the exit code of its first error


@click.command(
    "transcribe",
    cls=options.Sectioned,
    examples=("talk.m4a", "talks/ -o texts/ -f srt -f txt", "--mic --language German"),
)
@click.argument("files", nargs=-1)
@listening.sources
@options.option(
    "Output",
    "-o",
    "--output-dir",
    type=OutputDirectory(),
    help="Write a file for each of FILES and each format here; else, the text goes to stdout.",
)
@options.option(
    "Output",
    "-f",
    "--format",
    "formats",
    multiple=True,
    type=click.Choice([*WRITERS, _ALL]),
    help="Format to write (repeatable); txt by default.",
)
@options.option(
    "Output",
    "--max-line-width",
    type=click.IntRange(1),
    metavar="N",
    default=STANDARD.columns,
    show_default=True,
    help="Columns of a line of subtitles.",
)
@options.option(
    "Output",
    "--max-line-count",
    type=click.IntRange(1),
    metavar="N",
    default=STANDARD.lines,
    show_default=True,
    help="Lines that subtitles show at once.",
)
@options.option(
    "Output",
    "--max-words-per-line",
    type=click.IntRange(1),
    metavar="N",
    help="Words of a line of subtitles; as many as fit by default.",
)
@options.option(
    "Output", "--verbose", is_flag=True, help="Show the text of one file on stderr as it comes."
)
@options.option(
    "Output",
    "--json",
    "as_json",
    live=True,
    is_flag=True,
    help="The same as --format json; with --mic and --live, an object for every look.",
)
@options.option(
    "Output",
    "--overwrite",
    belongs_to="--output-dir",
    is_flag=True,
    help="Do again what is there and up to date already.",
)
@options.option(
    "Engine",
    "-m",
    "--bundle",
    live=True,
    type=Bundle(),
    envvar="EDGEWHISPER_BUNDLE",
    help="Bundle to run: its directory, or its name where it was built.",
)
@options.engine
@options.language()
@options.option(
    "Speech",
    "--task",
    live=True,
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
    max_line_width: int,
    max_line_count: int,
    max_words_per_line: int | None,
    verbose: bool,
    as_json: bool,
    overwrite: bool,
    bundle: Path | None,
    device: str,
    threads: int | None,
    audio_context: AudioContext | None,
    language: str | None,
    task: Task,
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

    failures: list[_Failure] = []

    def report(directory: Path, error: Exception) -> None:
        failures.append((click.format_filename(directory), streams.report(error)))

    inputs = [] if mic or live else recordings.find(files, report)
    if bundle is None:
        raise BundleError(
            "no bundle is named, and none was built here. Name one with --bundle DIR, or set "
            "EDGEWHISPER_BUNDLE."
        )
    if source := listening.open_source(mic, input_device, live):
        with source, listening.stopped_by_signals(source):
            transcriber = load(bundle, device, threads, audio_context)
            live_text = Live(transcriber, Options(language=language, task=task, **decoding))
            listening.listen(source, live_text, as_json)
        return
    chosen_formats = set(WRITERS) if _ALL in formats else set(formats)
    chosen_formats = chosen_formats | ({"json"} if as_json else set()) or {"txt"}
    layout = Layout(max_line_width, max_line_count, max_words_per_line)
    if timestamps is None and chosen_formats != {"txt"}:
        timestamps = True
    decoding_options = Options(language=language, task=task, timestamps=timestamps, **decoding)
    timed = decoding_options.timed
    jobs.check_formats(chosen_formats, timed, to_stdout=output_dir is None, count=len(inputs))
    planned = jobs.plan(inputs, chosen_formats, output_dir)
    waiting = planned if overwrite else jobs.undone(planned)
    count = len(failures) + len(waiting)
    if waiting:
        if output_dir is not None:
            jobs.check_directory(output_dir)
        transcriber = load(bundle, device, threads, audio_context)
        with ExitStack() as stack:
            paths = [stack.enter_context(job.recording.opened()) for job in waiting]
            if len(inputs) == 1:
                transcripts = _transcribe_one(transcriber, paths[0], decoding_options, verbose)
            else:
                transcripts = transcriber.transcribe_many(paths, decoding_options)
            failures += _write_all(waiting, paths, transcripts, layout, several=len(inputs) > 1)
    if failures:
        if count > 1:
            names = ", ".join(label for label, _ in failures)
            streams.say(f"{len(failures)} of {count} failed: {names}")
        sys.exit(failures[0][1])


def _transcribe_one(
    transcriber: Transcriber, path: Path, decoding_options: Options, verbose: bool
) -> Iterator[Transcript | Exception]:
    """Transcribe: `verbose` with the text as it comes, else a progress bar on a terminal."""
    from edgewhisper_runtime.audio import duration

    shown = sys.stderr.isatty() and not verbose
    outcome: Transcript | Exception
    try:
        length = round(duration(path)) if shown else 0
        with click.progressbar(
            length=length, label="transcribing", file=sys.stderr, hidden=not shown
        ) as bar:
            outcome = transcriber.transcribe(
                path,
                decoding_options,
                on_segment=_show if verbose else partial(_advance, bar),
            )
    except Exception as error:  # noqa: BLE001 # it is reported
        outcome = error
    yield outcome


def _show(segment: Segment) -> None:
    times = f"[{clock(segment.start)} --> {clock(segment.end)}]"
    streams.say(f"{times} {segment.text.strip()}")


def _advance(bar: Any, segment: Segment) -> None:
    bar.update(round(segment.end) - bar.pos)


def _write_all(
    waiting: Sequence[jobs.Job],
    paths: Sequence[Path],
    transcripts: Iterator[Transcript | Exception],
    layout: Layout,
    several: bool,
) -> list[_Failure]:
    """Write the transcripts in order; return the recordings that failed."""
    failures = []
    # Text on the same terminal would break up the progress bar.
    shown = several and sys.stderr.isatty() and not (waiting[0].on_stdout and sys.stdout.isatty())
    before = _CLEAR_LINE if shown else ""
    begin = time.perf_counter()
    with click.progressbar(
        waiting, label="transcribing", show_pos=True, file=sys.stderr, hidden=not shown
    ) as progress:
        for job, path, transcript in zip(progress, paths, transcripts, strict=True):
            seconds = time.perf_counter() - begin
            if isinstance(transcript, Exception):
                errors = iter([_named(transcript, path, job)])
            else:
                errors = _write(job, transcript, seconds, layout, prefixed=several)
            codes = [streams.report(error, job.recording.label, before) for error in errors]
            failures += [(job.recording.label, code) for code in codes[:1]]
            begin = time.perf_counter()
    return failures


def _write(
    job: jobs.Job, transcript: Transcript, seconds: float, layout: Layout, prefixed: bool
) -> Iterator[Exception]:
    """Write a transcript in its formats; yield its problem, and the errors of writing it.

    Raises an error that would stop the next transcript too.
    """
    label = job.recording.label
    for name, path in job.outputs.items():
        try:
            text = WRITERS[name](transcript, layout, file=label, seconds=round(seconds, 3))
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


def _named(error: Exception, path: Path, job: jobs.Job) -> Exception:
    """Return the error with the user's name of the recording: stdin's file is temporary."""
    if isinstance(error, EdgeWhisperError):
        error.args = (str(error).replace(str(path), job.recording.label),)
    return error


def _ends_job(error: Exception, job: jobs.Job) -> bool:
    """Tell whether the next transcript would fail too: stdout refuses it, or the disk is full."""
    cause = error.__cause__ if isinstance(error, StorageError) else error
    return isinstance(cause, OSError) and (job.on_stdout or cause.errno in FULL)
