"""What ONNX Runtime's spinning threads cost and save, alone and beside other work.

    python tools/measure_spinning.py BUNDLE RECORDING [--rounds 3]

A thread that waits for work can spin, which answers sooner, or sleep, which leaves the processor
to others. Each setting transcribes RECORDING in a fresh process; settings take turns, alone and
beside one process of other work for each processor. Raw results go to docs/results/spinning.json,
the table to docs/results/spinning.md.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from edgewhisper_runtime import bundle as bundles
from edgewhisper_runtime.bundle import to_json
from edgewhisper_runtime.measure import machine
from edgewhisper_runtime.measure.conditions import Watch

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
SETTINGS: dict[str, dict[str, str]] = {
    "ONNX Runtime's default": {"session.intra_op.allow_spinning": "1"},
    "at most 1000 us": {"session.intra_op.spin_duration_us": "1000"},
    "at most 100 us": {"session.intra_op.spin_duration_us": "100"},
    "at most 20 us": {"session.intra_op.spin_duration_us": "20"},
    "pauses that grow": {"session.intra_op.spin_backoff_max": "64"},
    "never": {"session.intra_op.allow_spinning": "0"},
}
OTHER_WORK = "while True: pass"
PROCESS = """
import json, sys, time
import onnxruntime
from edgewhisper_runtime import Options, audio, load
class SessionOptions(onnxruntime.SessionOptions):
    def __init__(self):
        super().__init__()
        for name, value in json.loads(sys.argv[2]).items():
            super().add_session_config_entry(name, value)
    def add_session_config_entry(self, name, value):
        if not name.startswith("session.intra_op."):  # the setting that is measured, not ours
            super().add_session_config_entry(name, value)
onnxruntime.SessionOptions = SessionOptions
transcriber, samples = load(sys.argv[1], audio_context=sys.argv[4]), audio.load(sys.argv[3])
options = Options(language="en")
transcriber.transcribe(samples[: 10 * audio.SAMPLE_RATE], options)
start, cpu = time.perf_counter(), time.process_time()
transcriber.transcribe(samples, options)
print(json.dumps({"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}))
"""


@contextmanager
def other_work(count: int) -> Iterator[None]:
    """Keep a number of processes busy with work of their own."""
    working = [subprocess.Popen([sys.executable, "-c", OTHER_WORK]) for _ in range(count)]
    try:
        yield
    finally:
        for process in working:
            process.kill()
            process.wait()


def measure(bundle: Path, settings: dict[str, str], recording: Path, context: str) -> Any:
    """Return the seconds and CPU seconds of a fresh process, and what else the machine did."""
    watch = Watch(machine.usable_cores())
    command = [sys.executable, "-c", PROCESS, bundle, json.dumps(settings), recording, context]
    result = subprocess.run(
        [str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(result.stdout) | {"conditions": to_json(watch.conditions())}


def to_markdown(result: dict[str, Any]) -> str:
    """Return the page."""
    host, length = result["machine"], result["seconds"]
    setup = (
        f"{result['bundle']} ({result['audio_context']} context), {host['usable_cores']} threads"
    )
    lines = [
        "# Spinning threads",
        "",
        "ONNX Runtime's threads wait for their next piece of work by spinning or by sleeping.",
        f"Seconds and CPU seconds to transcribe {length:.0f} s of speech: {setup}, {host['cpu']};",
        f"medians of {result['rounds']} fresh processes each, lowest and highest in brackets,",
        "settings in turns. Beside other work: one process for each processor that never rests.",
        "",
        "| spinning | alone: s | CPU s | beside other work: s | CPU s |",
        "|---|---|---|---|---|",
    ]
    for name in SETTINGS:
        cells = [name]
        for place in ("alone", "beside"):
            runs = [r for r in result["runs"] if (r["setting"], r["place"]) == (name, place)]
            for figure in ("seconds", "cpu"):
                values = [run[figure] for run in runs]
                middle = statistics.median(values)
                cells.append(f"{middle:.2f} ({min(values):.2f} to {max(values):.2f})")
        lines.append(f"| {' | '.join(cells)} |")
    others = [r["conditions"]["other_processors"] for r in result["runs"] if r["place"] == "alone"]
    middle, most = statistics.median(others), max(others)
    command = "python tools/measure_spinning.py BUNDLE RECORDING"
    lines += [
        "",
        f"While it ran alone, others kept {middle:.2f} processors busy (at most {most:.2f}).",
        "",
        f"Written by `{command}` from `docs/results/spinning.json`.",
        "",
    ]
    return "\n".join(lines)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("recording", type=click.Path(path_type=Path))
@click.option("--rounds", default=3, show_default=True)
@click.option("--audio-context", default="full", show_default=True)
@click.option(
    "--output", default=RESULTS, type=click.Path(path_type=Path), help="Directory of the results."
)
def main(bundle: Path, recording: Path, rounds: int, audio_context: str, output: Path) -> None:
    """Measure every setting in turns and write the page."""
    from edgewhisper_runtime import audio

    runs: list[dict[str, Any]] = []
    result = {
        "bundle": bundles.verify(bundle).name,
        "audio_context": audio_context,
        "machine": to_json(machine.describe()),
        "recording": recording.name,
        "seconds": len(audio.load(recording)) / audio.SAMPLE_RATE,
        "rounds": rounds,
        "runs": runs,
    }
    for number in range(rounds):
        for place, count in (("alone", 0), ("beside", machine.usable_cores())):
            for name, settings in SETTINGS.items():
                click.echo(f"round {number + 1} of {rounds}, {place}: {name}", err=True)
                with other_work(count):
                    figures = measure(bundle, settings, recording, audio_context)
                runs.append({"setting": name, "place": place, "round": number, **figures})
    (output / "spinning.json").write_text(json.dumps(result) + "\n")
    (output / "spinning.md").write_text(to_markdown(result))
    click.echo(to_markdown(result))


if __name__ == "__main__":
    main()
