"""Transcribe a file, with the time of each word.

Usage: python examples/words.py BUNDLE talk.flac
"""

import sys

from edgewhisper_runtime import EdgeWhisperError, Options, load

bundle, recording = sys.argv[1:]
try:
    transcript = load(bundle).transcribe(recording, Options(language="en", words=True))
except EdgeWhisperError as error:
    sys.exit(f"error: {error}")  # says what failed, where, and what to do

for segment in transcript.segments:
    for word in segment.words:
        print(f"{word.start:6.2f} {word.end:6.2f} {word.probability:4.0%} {word.text.strip()}")
