"""Speak the synthetic smoke set: our own sentences, in voices of flite and espeak-ng.

    python tools/make_smoke_set.py        (Debian: apt-get install flite espeak-ng)

Writes runtime/edgewhisper_runtime/speech in LibriSpeech's layout, as 16 kHz Opus.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr

TARGET = Path(__file__).parent.parent / "runtime" / "edgewhisper_runtime" / "speech" / "smoke"
RATE = 16_000
PAUSE_SECONDS = 0.25

FLITE = ("slt", "rms", "awb")
ESPEAK = {"us": "en-us", "gb": "en-gb+f3", "scot": "en-gb-scotland+m3"}

SENTENCES = (
    "The harbour was quiet, and only one small boat was moving across the water.",
    "Please turn off the kitchen light and lock the front door before you leave.",
    "She counted seven white birds on the roof of the old railway station.",
    "A good engineer measures first and changes one thing at a time.",
    "The train to the mountains leaves at a quarter past nine every morning.",
    "My grandmother kept her letters in a wooden box under the stairs.",
    "There is fresh bread on the table and soup on the stove.",
    "He walked along the river until the path ended at a broken bridge.",
    "Set the temperature in the living room to twenty one degrees.",
    "The storm passed during the night and left the garden full of leaves.",
    "We need more evidence before we can answer for this result.",
    "The children laughed when the dog carried away the umpire's hat.",
    "Could you read me the last message from my brother again?",
    "Snow covered the fields, and the road to the village was closed.",
    "The museum opens on Tuesday, but the tower is closed for repairs.",
    "Small machines can do remarkable work when nothing is wasted.",
    "The baker sold his last loaf to a traveller from the north.",
    "Remind me to water the plants on Friday afternoon.",
    "An honest report says what was measured and what was not.",
    "The wind turned, and the smoke of the fire drifted over the camp.",
    "The nurse wrote the dose on the chart and checked it twice.",
    "They crossed the desert by night because the days were too hot.",
    "Start a timer for fifteen minutes and call me when it is over.",
    "At the end of the concert the whole hall stood up and sang.",
)


def speak(voice: str, sentence: str, path: Path) -> None:
    """Write the sentence as WAV in one of the voices."""
    if voice in FLITE:
        subprocess.run(["flite", "-voice", voice, "-t", sentence, "-o", path], check=True)
    else:
        command = ["espeak-ng", "-v", ESPEAK[voice], "-s", "150", "-w", str(path), sentence]
        subprocess.run(command, check=True)


def main() -> None:
    """Write every sentence once, the voices taking turns."""
    voices = [*FLITE, *ESPEAK]
    shutil.rmtree(TARGET, ignore_errors=True)
    texts: dict[str, list[str]] = {voice: [] for voice in voices}
    with tempfile.TemporaryDirectory() as scratch:
        for number, sentence in enumerate(SENTENCES):
            voice = voices[number % len(voices)]
            wav = Path(scratch) / "spoken.wav"
            speak(voice, sentence, wav)
            samples, rate = soundfile.read(wav, dtype="float32")
            samples = soxr.resample(samples, rate, RATE)
            pause = np.zeros(int(PAUSE_SECONDS * RATE), dtype=np.float32)
            samples = np.concatenate([pause, 0.7 * samples / np.abs(samples).max(), pause])
            name = f"{voice}-1-{len(texts[voice]):04d}"
            path = TARGET / voice / "1" / f"{name}.opus"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, samples, RATE, format="OGG", subtype="OPUS")
            texts[voice].append(f"{name} {sentence.upper().rstrip('.?').replace(',', '')}\n")
    for voice, lines in texts.items():
        (TARGET / voice / "1" / f"{voice}-1.trans.txt").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
