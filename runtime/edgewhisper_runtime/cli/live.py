"""edgewhisper transcribe --mic and --live: text while someone speaks."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from edgewhisper_runtime.cli import options, streams

if TYPE_CHECKING:
    from edgewhisper_runtime.audio.capture import Capture
    from edgewhisper_runtime.live import Live, Update

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LATE = 10.0  # seconds
_CLEAR_LINE = "\r\x1b[K"
_USUAL_COLUMNS = 80  # where the terminal does not tell


def sources(command: options.F) -> options.F:
    """Add the options that `open_source` reads: --mic, --input-device, --live."""
    return options.add(
        command,
        options.option(
            "Live",
            "--mic",
            live=True,
            is_flag=True,
            help="Listen to the microphone, until Ctrl-C.",
        ),
        options.option(
            "Live",
            "--input-device",
            live=True,
            belongs_to="--mic",
            metavar="NAME",
            help="Another microphone than the system's own: its number or a part of its name; "
            "`python -m sounddevice` lists them.",
        ),
        options.option(
            "Live",
            "--live",
            live=True,
            is_flag=True,
            help="Listen to stdin: raw samples, signed 16-bit little-endian, mono, 16 kHz.",
        ),
    )


def open_source(mic: bool, input_device: str | None, live: bool) -> Capture | None:
    """Return the source that the current command listens to; None where it reads FILES.

    Raises UsageError for options that exclude each other, and the errors of `capture`.
    """
    from edgewhisper_runtime.audio import capture

    if not mic and not live:
        return None
    if mic and live:
        raise click.UsageError("--mic and --live are two sources; choose one.")
    context = click.get_current_context()
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if given and not getattr(parameter, "live", False):
            argument = isinstance(parameter, click.Argument)
            hint = "FILES" if argument else parameter.get_error_hint(context)
            raise click.UsageError(f"{hint} is for recordings, not for --mic or --live.")
    if live:
        return capture.stdin()
    return capture.microphone(input_device)


def listen(source: Capture, live: Live, as_json: bool) -> None:
    """Write the text of a source until it ends, or until Ctrl-C or SIGTERM.

    Raises the error that ended the source, after the last words.
    """
    from edgewhisper_runtime.audio import SAMPLE_RATE

    screen = _Screen(as_json)
    screen.say(f"listening to {source.name}; Ctrl-C ends it")
    was_late = False
    try:
        for samples in source:
            late = len(samples) > _LATE * SAMPLE_RATE
            if late and not was_late:
                seconds = len(samples) // SAMPLE_RATE
                screen.say(f"{seconds} s of sound wait; text comes less often until they are done")
            was_late = late
            for update in live.feed(samples):
                screen.show(update)
        for update in live.finish():
            screen.show(update)
    finally:
        screen.clear()
    if source.error:
        raise source.error


@contextmanager
def stopped_by_signals(source: Capture) -> Iterator[None]:
    """Stop the source at the first Ctrl-C or SIGTERM; the second one aborts."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def restore(*_signal: object) -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(*_signal: object) -> None:
        restore()
        source.stop()

    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # as in a shell's background jobs
            signal.signal(number, stop)
    try:
        yield
    finally:
        restore()


class _Screen:
    """Final text on stdout, one line for each utterance; text that may still change on stderr.

    On a terminal one line of stderr shows the end of the utterance under way, rewritten in place.
    A stdout that is a terminal too gets whole utterances, any other stdout gets words as soon as
    they are final.
    """

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._rewrites = sys.stderr.isatty() and not as_json
        self._whole = self._rewrites and sys.stdout.isatty()
        self._utterance = ""

    def show(self, update: Update) -> None:
        """Write an update."""
        if self._as_json:
            click.echo(json.dumps(asdict(update), ensure_ascii=False))
            return
        new = update.final if self._utterance else update.final.lstrip()
        self._utterance += new
        self.clear()
        if not self._whole:
            click.echo(new, nl=False)
        if update.ended and self._utterance:
            click.echo(self._utterance if self._whole else "")
            self._utterance = ""
        if self._rewrites:
            click.echo(_end_of(self._utterance + update.partial), nl=False, err=True)

    def say(self, text: str) -> None:
        """Write a line about the work to stderr."""
        self.clear()
        streams.say(text)

    def clear(self) -> None:
        """Empty the line that is rewritten."""
        if self._rewrites:
            click.echo(_CLEAR_LINE, nl=False, err=True)


def _end_of(text: str) -> str:
    """Return the end of a text that fits on one line of the terminal."""
    from edgewhisper_runtime.text.subtitles import columns

    room = (os.get_terminal_size(sys.stderr.fileno()).columns or _USUAL_COLUMNS) - 1
    if columns(text) <= room:
        return text
    while columns(text) >= room > 0:
        text = text[1:]
    return f"…{text}"
