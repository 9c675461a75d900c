"""Try hostile inputs, and count by kind what they end in.

    python tools/try_hostile_inputs.py audio SPEECH --output docs/results/reliability/audio.json
    python tools/try_hostile_inputs.py bundles BUNDLE --output docs/results/reliability/bundles.json
    python tools/try_hostile_inputs.py tests --output docs/results/reliability/tests.json

The first two try the corpora of tests/hostile, made of some seconds of speech at 16 kHz and of an
intact ONNX bundle. "handled" is all of the sound, or a text; "refused" is an error of EdgeWhisper's
own; all else is bad. The third runs the tests whose cases are hostile by themselves. The exit code
is 1 where an input is bad. tools/write_tables.py writes docs/reliability.md from the counts.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import click

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


def run_tests(kind: str | None) -> Iterator[Trial]:
    """Run the test files, of all kinds or one; a skipped test is no trial."""
    for name, path in TESTS.items():
        if kind not in {None, name}:
            continue
        with tempfile.NamedTemporaryFile(suffix=".xml") as report:
            command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report.name}", path]
            subprocess.run(command, cwd=ROOT, check=False, stdout=sys.stderr)
            for test in ET.parse(report.name).iter("testcase"):  # noqa: S314 # pytest wrote it
                if test.find("skipped") is None:
                    failed = [test.find(word) for word in ("failure", "error")]
                    bad = next((f.get("message", "") for f in failed if f is not None), None)
                    outcome = "handled" if bad is None else f"failed: {bad}"[:300]
                    yield Trial(name, test.get("name", ""), outcome, float(test.get("time", 0)))


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
    if output is not None:
        result = {"machine": machine.describe(), **counts}
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for kind, row in counts["kinds"].items():
        click.echo(f"{kind}: {', '.join(f'{value} {name}' for name, value in row.items())}")
    sys.exit(bool(counts["bad"]))


def options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that all commands have."""
    for option in (
        click.option("--kind", help="Try only this kind."),
        click.option("--output", type=click.Path(path_type=Path), help="Write the counts as JSON."),
    ):
        command = option(command)
    return command


every = click.option("--every", default=1, show_default=True, help="Try every n-th input.")


@click.group()
def main() -> None:
    """Try hostile inputs, and count by kind what they end in."""


@main.command()
@click.argument("speech", type=click.Path(path_type=Path, exists=True))
@every
@options
def audio(speech: Path, every: int, kind: str | None, output: Path | None) -> None:
    """Hear damaged audio files, made of SPEECH."""
    finish(audio_corpus.trials(speech, every, kind), output)


@main.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@every
@options
def bundles(bundle: Path, every: int, kind: str | None, output: Path | None) -> None:
    """Load and run corrupted copies of BUNDLE."""
    finish(bundle_trials.trials(bundle, every, kind), output)


@main.command()
@options
def tests(kind: str | None, output: Path | None) -> None:
    """Run the tests of hostile input."""
    finish(run_tests(kind), output)


if __name__ == "__main__":
    main()
