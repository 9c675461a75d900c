"""Memory against length: the peak memory of processes that transcribe files of several lengths.

    python tools/measure_memory.py BUNDLE RECORDING --work DIR

The files repeat RECORDING, and are written below --work. Raw results go to
docs/results/memory.json, the table to docs/results/memory.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import click

from edgewhisper_runtime import bundle as bundles
from edgewhisper_runtime.bundle import to_json
from edgewhisper_runtime.measure import machine

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
CONTEXTS = ("full", "adaptive")
MINUTES = (1, 10, 60)
PROCESS = """
import json, sys
from edgewhisper_runtime import Options, load
from edgewhisper_runtime.measure import machine
from edgewhisper_runtime.memory import return_large_blocks
return_large_blocks()
transcriber = load(sys.argv[1], audio_context=sys.argv[2])
loaded = machine.peak_rss()
transcript = transcriber.transcribe(sys.argv[3], Options(language="en"))
words = len(transcript.text.split())
print(json.dumps({"loaded": loaded, "peak": machine.peak_rss(), "words": words}))
"""


def repeated(recording: Path, minutes: int, work: Path) -> Path:
    """Write a file of a number of minutes and return it."""
    import soundfile

    path = work / f"{recording.stem}-{minutes}.wav"
    samples, rate = soundfile.read(recording, dtype="int16")
    left = minutes * 60 * rate
    with soundfile.SoundFile(path, "w", rate, 1) as file:
        while left > 0:
            file.write(samples[:left])
            left -= len(samples)
    return path


def measure(bundle: Path, context: str, path: Path) -> dict[str, Any]:
    """Return the peak resident set of a fresh process, in bytes, after loading and in all."""
    command = [sys.executable, "-c", PROCESS, str(bundle), context, str(path)]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, Any] = json.loads(result.stdout)
    return figures


def to_markdown(result: dict[str, Any]) -> str:
    """Return the page."""
    lines = [
        "# Memory against length",
        "",
        f"The peak resident set of a process that transcribes with {result['bundle']}, in MB.",
        "Audio is read window by window; all samples of an hour would take 230 MB by themselves.",
        "",
        "| audio context | minutes | words | after loading | in all |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['audio_context']} | {row['minutes']} | {row['words']} | "
        f"{row['loaded'] / 1e6:.0f} | {row['peak'] / 1e6:.0f} |"
        for row in result["rows"]
    ]
    command = "python tools/measure_memory.py BUNDLE RECORDING --work DIR"
    lines += ["", f"Written by `{command}` from `docs/results/memory.json`.", ""]
    return "\n".join(lines)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("recording", type=click.Path(path_type=Path))
@click.option("--work", type=click.Path(path_type=Path), required=True)
def main(bundle: Path, recording: Path, work: Path) -> None:
    """Measure every length with both audio contexts and write the page."""
    work.mkdir(parents=True, exist_ok=True)
    rows = []
    for context, minutes in product(CONTEXTS, MINUTES):
        click.echo(f"{minutes} minutes, {context} context", err=True)
        figures = measure(bundle, context, repeated(recording, minutes, work))
        rows.append({"minutes": minutes, "audio_context": context, **figures})
    result = {
        "bundle": bundles.verify(bundle).name,
        "machine": to_json(machine.describe()),
        "recording": recording.name,
        "rows": rows,
    }
    (RESULTS / "memory.json").write_text(json.dumps(result) + "\n")
    (RESULTS / "memory.md").write_text(to_markdown(result))
    click.echo(to_markdown(result))


if __name__ == "__main__":
    main()
