"""Latency of live transcription: how long after a word was spoken it is shown, and is final.

    python tools/measure_latency.py BUNDLE RECORDING

The start of RECORDING goes through a pipe to `edgewhisper-runtime transcribe --live`, another
process, at the speed of the speech. The end of each word in the audio is taken from the bundle's
transcript of the whole. Raw results go to docs/results/latency.json, the table to
docs/results/latency.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from pathlib import Path
from threading import Thread
from typing import IO, Any

import click
import numpy as np

from edgewhisper_runtime import audio, load
from edgewhisper_runtime import bundle as bundles
from edgewhisper_runtime.bundle import AudioContext, to_json
from edgewhisper_runtime.measure import machine
from edgewhisper_runtime.options import Options

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
CONTEXTS: tuple[AudioContext, ...] = ("full", "adaptive")
BLOCK = audio.SAMPLE_RATE // 10
LANGUAGE = "en"


@dataclass
class Word:
    """A word in lower case without punctuation, its times, and its latencies, in seconds.

    A latency is None if live transcription gave another word.
    """

    text: str
    start: float
    end: float
    shown: float | None = None
    final: float | None = None


def plain(text: str) -> str:
    """Return a word without case and punctuation, which often change."""
    return "".join(character for character in text.lower() if character.isalnum())


def spoken(bundle: Path, samples: audio.Samples, context: AudioContext) -> list[Word]:
    """Return the words of samples [n], transcribed as a whole."""
    transcriber = load(bundle, audio_context=context)
    transcript = transcriber.transcribe(samples, Options(language=LANGUAGE, words=True))
    words = [word for segment in transcript.segments for word in segment.words]
    return [Word(plain(word.text), word.start, word.end) for word in words if plain(word.text)]


def speak(samples: audio.Samples, pipe: IO[bytes], begin: float) -> None:
    """Write samples [n] to a pipe in blocks of 0.1 s, each when its speech would end."""
    content = (samples * 32767).astype("<i2").tobytes()
    with pipe:
        for start in range(0, len(content), 2 * BLOCK):
            end = begin + (start // 2 + BLOCK) / audio.SAMPLE_RATE
            time.sleep(max(0.0, end - time.monotonic()))
            pipe.write(content[start : start + 2 * BLOCK])
            pipe.flush()


def listen(
    bundle: Path, samples: audio.Samples, context: AudioContext
) -> list[tuple[float, dict[str, Any]]]:
    """Return the updates of a process for samples [n], with their seconds from the start."""
    command = [str(Path(sys.executable).parent / "edgewhisper-runtime"), "transcribe", "--live"]
    command += ["--json", "--bundle", str(bundle), "--language", LANGUAGE]
    command += ["--audio-context", context]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise RuntimeError("a process that was asked for pipes has none")
        process.stderr.readline()  # it says that it listens
        begin = time.monotonic()
        Thread(target=speak, args=(samples, process.stdin, begin), daemon=True).start()
        updates = [(time.monotonic() - begin, json.loads(line)) for line in process.stdout]
        if process.wait():
            raise click.ClickException(process.stderr.read().decode())
    return updates


def note(words: Iterable[Word], text: str, seconds: float, now: float, latency: str) -> None:
    """Set the latency of each word that is in a text for the first time.

    Only words that start within the `seconds` of audio so far can be in it.
    """
    begun = [word for word in words if word.start < seconds]
    text_words = [plain(word) for word in text.split()]
    matcher = SequenceMatcher(None, [word.text for word in begun], text_words, autojunk=False)
    for start, _, size in matcher.get_matching_blocks():
        for word in begun[start : start + size]:
            if getattr(word, latency) is None:
                setattr(word, latency, round(now - word.end, 3))


def measure(bundle: Path, samples: audio.Samples, context: AudioContext) -> dict[str, Any]:
    """Return the words of samples [n] with their latencies."""
    words = spoken(bundle, samples, context)
    final = ""
    for now, update in listen(bundle, samples, context):
        final += update["final"]
        note(words, final + update["partial"], update["seconds"], now, "shown")
        note(words, final, update["seconds"], now, "final")
    return {"audio_context": context, "words": [asdict(word) for word in words]}


def to_markdown(result: dict[str, Any]) -> str:
    """Return the page."""
    host = result["machine"]
    lines = [
        "# Latency of live transcription",
        "",
        "Seconds from the end of a word in the audio until it is shown, when it may still change,",
        "and until it is final. Words that were heard differently than in the whole are left out.",
        f"{result['recording']}: its first {result['seconds']:.0f} s, as fast as they were spoken;",
        f"{result['bundle']}, {host['cpu']}, {host['usable_cores']} cores.",
        "",
        "| audio context | words | shown: median | 95 % | final: median | 95 % |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        cells = [row["audio_context"]]
        for latency in ("shown", "final"):
            latencies = [word[latency] for word in row["words"] if word[latency] is not None]
            if latency == "shown":
                cells.append(f"{len(latencies)} of {len(row['words'])}")
            cells += [f"{value:.2f}" for value in np.percentile(latencies, [50, 95])]
        lines.append(f"| {' | '.join(cells)} |")
    command = "python tools/measure_latency.py BUNDLE RECORDING"
    lines += ["", f"Written by `{command}` from `docs/results/latency.json`.", ""]
    return "\n".join(lines)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("recording", type=click.Path(path_type=Path))
@click.option("--seconds", default=60.0, show_default=True, help="How much of it to speak.")
def main(bundle: Path, recording: Path, seconds: float) -> None:
    """Measure with either audio context and write the page."""
    samples = audio.load(recording)[: round(seconds * audio.SAMPLE_RATE)]
    rows = []
    for context in CONTEXTS:
        click.echo(f"{context} context", err=True)
        rows.append(measure(bundle, samples, context))
    result = {
        "bundle": bundles.verify(bundle).name,
        "machine": to_json(machine.describe()),
        "recording": recording.name,
        "seconds": len(samples) / audio.SAMPLE_RATE,
        "rows": rows,
    }
    (RESULTS / "latency.json").write_text(json.dumps(result) + "\n")
    (RESULTS / "latency.md").write_text(to_markdown(result))
    click.echo(to_markdown(result))


if __name__ == "__main__":
    main()
