"""Transcribe a 16 kHz recording as if it were being spoken: text appears while it plays.

Usage: python examples/live.py BUNDLE talk.wav
"""

import sys
import time
from collections.abc import Iterator

import soundfile

from edgewhisper_runtime import Live, Options, Update, load

BLOCK = 1600  # samples: 0.1 s


def show(updates: Iterator[Update]) -> None:
    """Print what has become final; an utterance is a line."""
    for update in updates:
        print(update.final, end="\n" if update.ended else "", flush=True)


bundle, recording = sys.argv[1:]
live = Live(load(bundle), Options(language="en"))
start = time.monotonic()
with soundfile.SoundFile(recording) as file:
    while True:
        # All that has been spoken by now, so that a slow machine catches up.
        spoken = int((time.monotonic() - start) * file.samplerate)
        samples = file.read(max(spoken - file.tell(), BLOCK), dtype="float32")
        if not len(samples):
            break
        show(live.feed(samples))
        time.sleep(max(0.0, start + file.tell() / file.samplerate - time.monotonic()))
show(live.finish())
