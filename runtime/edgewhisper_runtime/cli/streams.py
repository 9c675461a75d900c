"""The standard streams, whatever they are connected to, and errors as lines on stderr."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import TextIO

import click

from edgewhisper_runtime.errors import EdgeWhisperError, StorageError, printable

INTERNAL_ERROR = 70  # EX_SOFTWARE of sysexits.h


class _Stdout(TextIOWrapper):
    """Stdout whose errors name it; that of a closed pipe stays as it is, for click to end with."""

    def write(self, text: str) -> int:
        with _refusals():
            return super().write(text)

    def flush(self) -> None:
        with _refusals():
            super().flush()


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StorageError(
            f"stdout may not be written ({error.strerror}). Send the output elsewhere."
        ) from error


def prepare() -> None:
    """Make the standard streams take any text; to be called once, before anything is opened.

    What is redirected is UTF-8 (as Python itself has it from 3.15 on, PEP 686), whatever the locale
    and PYTHONIOENCODING say; a terminal keeps its encoding. What cannot be encoded is escaped.

    A stream that was closed is opened again, so that no other file gets its number: stdin is empty,
    stdout refuses all that is written, stderr drops it.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)
            # open() never asks whether a number may be written.
            stream = open(number, "r" if name == "stdin" else "w", encoding="utf-8")  # noqa: PTH123, SIM115 # open to the end
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
    sys.stdout = _Stdout(
        sys.stdout.buffer, _encoding(sys.stdout), "backslashreplace", line_buffering=True
    )
    if isinstance(sys.stderr, TextIOWrapper):
        sys.stderr.reconfigure(encoding=_encoding(sys.stderr), errors="backslashreplace")


def _encoding(stream: TextIO) -> str:
    return stream.encoding if stream.isatty() else "utf-8"


def say(message: str, before: str = "") -> None:
    """Write a message to stderr as one line; a stderr that takes nothing stops no work."""
    with suppress(OSError):
        click.echo(before + printable(message), err=True)


def report(error: Exception, of: str = "", before: str = "") -> int:
    """Write one line about an error, and return its exit code; with --debug, the traceback too.

    `of` names the recording, for errors that do not name it themselves. `before` is what clears
    the line of a terminal.
    """
    if "--debug" in sys.argv:
        traceback.print_exception(error)
    where = f"{of}: " if of else ""
    match error:
        case EdgeWhisperError():
            code, message = error.exit_code, str(error)
        case MemoryError() | OSError(errno=errno.ENOMEM):
            code = INTERNAL_ERROR
            message = f"{where}not enough memory. Free some, or take a smaller model or batch."
        case OSError():  # the system refused: a full disk, a permission
            code = StorageError.exit_code
            message = (
                f"{error.strerror or error}: {error.filename2 or error.filename or of or 'no file'}"
            )
        case _:
            code = INTERNAL_ERROR
            message = (
                f"{where}unexpected {type(error).__name__}: {error}. This is a defect; --debug "
                "after the program's name shows where."
            )
    say(f"error: {message}", before)
    return code


def finish(code: int) -> int:
    """Flush both streams; return the exit code, or an error's where stdout refuses the rest.

    What a stream refuses is dropped: the interpreter would complain about it once more at exit.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, StorageError) as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            code = code or report(error)
    return code
