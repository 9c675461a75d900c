"""Try hostile inputs, and count by kind what they end in.

    python tools/try_hostile_inputs.py audio SPEECH --output docs/results/reliability/audio.json
    python tools/try_hostile_inputs.py bundles BUNDLE --output docs/results/reliability/bundles.json
    python tools/try_hostile_inputs.py tests --output docs/results/reliability/tests.json

The first two try the corpora of tests/hostile, made of some seconds of speech at 16 kHz and of an
intact ONNX bundle. "handled" is all of the sound, or a text; "refused" is an error of EdgeWhisper's
own; all else is bad, and the exit code is 1. The third counts the tests whose cases are hostile.
 tools/write_tables.py writes docs/reliability.md from the counts.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from edgewhisper_runtime.bundle import to_json
from edgewhisper_runtime.measure import machine

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from hostile import audio_corpus, bundle_trials  # noqa: E402 # from the path above
from hostile.trial import Trial  # noqa: E402 # from the path above

# Test files whose cases are hostile, by what they try.
TESTS = {
    "streams that refuse, names, encodings": "tests/runtime/cli/test_streams.py",
    "text files: kills and full disks": "tests/runtime/bundle/test_atomic.py",
    "bundles: kills, full disks, processes at once": "tests/edgewhisper/test_staging.py",
    "commands: bad input, a full disk, Ctrl-C": "tests/hostile/test_bad_input.py",
    "control characters in bundles and names": "tests/hostile/test_bundles.py",
    "the server: malformed requests, slow clients, load": "tests/runtime/serve",
    "checkpoints": "tests/edgewhisper/checkpoints",
    "fine-tunes": "tests/edgewhisper/test_fine_tunes.py",
    "word times": "tests/runtime/decode/test_alignment.py",
    "ONNX files": "tests/runtime/engines/test_onnx_file.py",
    "PyTorch bundles": "tests/runtime/engines/test_pytorch.py",
}


def count_tests() -> dict[str, dict[str, int | str]]:
    """Return each kind's path, and how many tests it has."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *TESTS.values()]
    result = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    names = result.stdout.splitlines()
    return {
        kind: {"path": path, "tests": sum("::" in n and n.startswith(path) for n in names)}
        for kind, path in TESTS.items()
    }


def count(trials: Iterable[Trial]) -> dict[str, Any]:
    """Return how many of each kind were handled, refused and bad, the seconds, and the bad ones."""
    kinds: dict[str, dict[str, Any]] = {}
    bad = []
    for trial in trials:
        counts = kinds.setdefault(
            trial.kind, {"handled": 0, "refused": 0, "bad": 0, "seconds": 0.0, "slowest": 0.0}
        )
        counts["bad" if trial.bad else trial.outcome] += 1
        counts["seconds"] = round(counts["seconds"] + trial.seconds, 3)
        counts["slowest"] = max(counts["slowest"], round(trial.seconds, 3))
        if trial.bad:
            bad.append(asdict(trial))
            click.echo(f"{trial.kind}: {trial.name}: {trial.outcome}", err=True)
    return {"kinds": kinds, "bad": bad}


def finish(trials: Iterable[Trial], output: Path | None) -> None:
    """Count the trials, write the counts, and exit."""
    counts = count(trials)
    write({"machine": to_json(machine.describe()), **counts}, output)
    sys.exit(bool(counts["bad"]))


def write(result: dict[str, Any], output: Path | None) -> None:
    """Write a result as JSON: to a file, or to stdout."""
    text = json.dumps(result, indent=1)
    if output is None:
        click.echo(text)
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(f"{text}\n", encoding="utf-8")


every_option = click.option("--every", default=1, show_default=True, help="Try every n-th input.")
kind_option = click.option("--kind", help="Try only this kind.")
output_option = click.option(
    "--output", type=click.Path(path_type=Path), help="Where the counts go as JSON; else, stdout."
)


@click.group()
def main() -> None:
    """Try hostile inputs, and count by kind what they end in."""


@main.command()
@click.argument("speech", type=click.Path(path_type=Path, exists=True))
@every_option
@kind_option
@output_option
def audio(speech: Path, every: int, kind: str | None, output: Path | None) -> None:
    """Hear damaged audio files, made of SPEECH."""
    finish(audio_corpus.trials(speech, every, kind), output)


@main.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@every_option
@kind_option
@output_option
def bundles(bundle: Path, every: int, kind: str | None, output: Path | None) -> None:
    """Load and run corrupted copies of BUNDLE."""
    finish(bundle_trials.trials(bundle, every, kind), output)


@main.command()
@output_option
def tests(output: Path | None) -> None:
    """Count the tests of hostile input."""
    write(count_tests(), output)


if __name__ == "__main__":
    main()
