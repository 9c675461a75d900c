"""What FILES on the command line means: files, directories, patterns, and - for stdin."""

from __future__ import annotations

import glob
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from edgewhisper_runtime.errors import AudioError, amount, printable

# The files that are taken from a directory; how a file is read depends on its content only.
SUFFIXES = frozenset({
    ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp2", ".mp3", ".oga", ".ogg", ".opus",
    ".rf64", ".snd", ".w64", ".wav",
})  # fmt: skip
MEDIA_SUFFIXES = frozenset({
    ".3g2", ".3gp", ".aac", ".amr", ".asf", ".awb", ".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov",
    ".mp4", ".webm", ".wma", ".wmv",
})  # fmt: skip
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass(frozen=True)
class Input:
    """A file to transcribe: its path (None: stdin), and its name below --output-dir."""

    path: Path | None
    name: Path

    @property
    def label(self) -> str:
        """The name in messages and JSON."""
        return click.format_filename(self.path) if self.path else "stdin"

    @contextmanager
    def opened(self) -> Iterator[Path]:
        """Yield the path of the file; stdin's is temporary.

        Raises AudioError when stdin does not end, StorageError when there is no room for it.
        """
        if self.path:
            yield self.path
        else:
            from edgewhisper_runtime.audio.spool import spooled

            with spooled(sys.stdin.buffer, "stdin") as path:
                yield path


def find(arguments: Sequence[str], on_error: Callable[[Path, AudioError], object]) -> list[Input]:
    """Return the inputs that FILES names, in its order; directories and patterns sorted.

    The name of a file in a directory is its path below that directory. A path that does not exist
    is returned as it is. `on_error` is called for each directory that cannot be read, or that has
    no audio. Raises UsageError for no FILES, two stdins, or an empty name.
    """
    if not arguments:
        raise click.UsageError("name the FILES to transcribe; --mic and --live listen instead.")
    if "" in arguments:  # an unset variable of a shell; to pathlib, it is the current directory
        raise click.UsageError("one of FILES is an empty name.")
    if arguments.count("-") > 1:
        raise click.UsageError("stdin (-) can be read once only.")
    inputs: list[Input] = []
    for argument in arguments:
        if argument == "-":
            inputs.append(Input(None, Path("stdin")))
            continue
        if _URL.match(argument) and not os.path.lexists(argument):
            raise click.UsageError(
                f"{printable(argument)} is a URL: download it, and name the file."
            )
        for path in _matches(argument):
            is_directory = os.path.isdir(path)  # noqa: PTH112 # Path.is_dir refuses a name too long
            if is_directory:
                inputs += _below(path, on_error)
            else:
                inputs.append(Input(path, Path(path.name)))
    return inputs


def _matches(argument: str) -> list[Path]:
    """Return the paths that match a pattern, or the argument itself if there are none."""
    if os.path.lexists(argument):
        return [Path(argument)]
    matches = glob.glob(argument, recursive=True)  # noqa: PTH207 # Path.glob refuses absolute ones
    return [Path(match) for match in sorted(matches) or [argument]]


def _below(directory: Path, on_error: Callable[[Path, AudioError], object]) -> list[Input]:
    """Return the audio files of a directory and of those in it, hidden ones left out."""
    from edgewhisper_runtime.audio.decoders import has_media

    suffixes = SUFFIXES | MEDIA_SUFFIXES
    inputs: list[Input] = []
    left_out: list[str] = []
    unreadable: list[OSError] = []
    for parent, children, names in os.walk(directory, onerror=unreadable.append):
        children[:] = sorted(name for name in children if not name.startswith("."))
        for path in (Path(parent, name) for name in sorted(names) if name[0] != "."):
            suffix = path.suffix.lower()
            if suffix not in suffixes or not _may_be_file(path):
                continue
            if suffix in MEDIA_SUFFIXES and not has_media():
                left_out.append(suffix)
            else:
                inputs.append(Input(path, path.relative_to(directory)))
    for error in unreadable:
        path = Path(error.filename)
        message = f"{click.format_filename(path)} could not be read ({error.strerror}); what it "
        on_error(path, AudioError(message + "holds is left out. Check its permissions and path."))
    label = click.format_filename(directory)
    if left_out:
        click.echo(
            f"{label}: {amount(len(left_out), 'file')} left out for want of PyAV "
            f"({', '.join(sorted(set(left_out)))}): pip install 'edgewhisper-runtime[media]'.",
            err=True,
        )
    if not inputs and not unreadable:
        message = (
            f"{label} holds no audio file. Looked for {', '.join(sorted(suffixes))} in it and "
            "below; name files with other suffixes one by one."
        )
        on_error(directory, AudioError(message))
    return inputs


def _may_be_file(path: Path) -> bool:
    """Tell whether a path is a file, or one that may not be looked at; a pipe may never end."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError as error:  # reading it gives the better error
        return not isinstance(error, FileNotFoundError)
