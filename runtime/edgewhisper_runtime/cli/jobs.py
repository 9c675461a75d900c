"""The jobs of `transcribe`: which file to write for which recording, planned before any work."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from edgewhisper_runtime.bundle.atomic import storage_errors
from edgewhisper_runtime.cli import recordings, streams
from edgewhisper_runtime.errors import printable

_TIMED_FORMATS = {"srt", "vtt", "tsv"}
_LONGEST_NAME = 255  # bytes of a file name, in nearly all file systems


@dataclass(frozen=True)
class Job:
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


def check_formats(formats: set[str], timed: bool, to_stdout: bool, count: int) -> None:
    """Raise UsageError for formats that contradict each other or the number of recordings."""
    made_of_times = sorted(formats & _TIMED_FORMATS)
    if made_of_times and not timed:
        raise click.UsageError(f"{made_of_times[0]} is made of times; leave out --no-timestamps.")
    if to_stdout and len(formats) > 1:
        raise click.UsageError("stdout takes one format; for more, add --output-dir DIR.")
    if to_stdout and made_of_times and count > 1:
        raise click.UsageError(
            f"stdout takes the {made_of_times[0]} of one file; for {count}, add --output-dir DIR."
        )


def plan(
    inputs: Sequence[recordings.Input], formats: set[str], output_dir: Path | None
) -> list[Job]:
    """Return the jobs; raise UsageError where one would overwrite another's input or output."""
    if output_dir is None:
        return [Job(recording, dict.fromkeys(formats)) for recording in inputs]
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
        jobs.append(Job(recording, outputs))
    return jobs


def _output(target: Path, suffix: str) -> Path:
    """Return the target with another suffix; where the name is too long, its stem is cut."""
    stem = target.stem
    while len(os.fsencode(stem + suffix)) > _LONGEST_NAME:
        stem = stem[:-1]
    return target.with_name(stem + suffix)


def undone(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs that are not done, and tell of those that are."""
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


def check_directory(path: Path) -> None:
    """Raise StorageError now for a directory that would refuse the first transcript."""
    with storage_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
