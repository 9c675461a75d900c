"""Corrupted bundles, each loaded in a process with limited memory: outcomes by kind.

    python tools/try_hostile_bundles.py BUNDLE --output docs/results/hostile-bundles.json

BUNDLE is an intact ONNX bundle. The cases are those of tests/hostile/bundle_corpus.py. "refused"
ended in an error of EdgeWhisper's own, "ran" in a text. All else is bad, also a case that takes
more than --seconds or kills the process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

CORPUS = Path(__file__).parent.parent / "tests" / "hostile" / "bundle_corpus.py"
_REFUSED = {"BundleError", "MissingLibraryError"}  # the latter for an engine of another name
_START = 120.0  # seconds until the first case


def attempts(bundle: Path, every: int, seconds: float) -> Iterator[dict[str, Any]]:
    """Yield each case with its outcome; a process that dies or hangs is begun again after it."""
    first = 0
    while True:
        command = [sys.executable, str(CORPUS), str(bundle), "--every", str(every)]
        command += ["--first", str(first)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        pending: dict[str, Any] | None = None
        timer = _started(process, _START)
        for line in process.stdout or ():
            timer.cancel()
            timer = _started(process, seconds)
            row = json.loads(line)
            if row["kind"] == "intact" or "outcome" not in row:
                pending = row if "number" in row else None
                continue
            pending, first = None, row["number"] + every
            yield row
        timer.cancel()
        if process.wait() == 0:
            return
        if pending is None:
            raise click.ClickException(f"trying bundles ended with exit code {process.returncode}.")
        first = pending["number"] + every
        yield pending | {"outcome": f"died or hung ({process.returncode})", "seconds": seconds}


def _started(process: subprocess.Popen[str], seconds: float) -> threading.Timer:
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    return timer


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.option("--every", default=1, show_default=True, help="Try every n-th case.")
@click.option("--seconds", default=60.0, show_default=True, help="Limit of one case.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the counts here as JSON.")
def command(bundle: Path, every: int, seconds: float, output: Path | None) -> None:
    """Try corrupted copies of BUNDLE and count what they end in; exit code 1 if any is bad."""
    counts: dict[str, Counter[str]] = {}
    bad = []
    slowest = 0.0
    for row in attempts(bundle.resolve(), every, seconds):
        outcome = row["outcome"]
        refused, ran = outcome in _REFUSED, outcome.startswith("text: ")
        kind = "refused" if refused else "ran" if ran else "bad"
        counts.setdefault(row["kind"], Counter())[kind] += 1
        slowest = max(slowest, row["seconds"])
        if kind == "bad":
            bad.append(row)
            click.echo(json.dumps(row), err=True)
    result = {
        "command": f"python tools/try_hostile_bundles.py BUNDLE --every {every}",
        "kinds": {kind: dict(count) for kind, count in counts.items()},
        "slowest_seconds": slowest,
        "bad": bad,
    }
    text = json.dumps(result, indent=1)
    click.echo(text)
    if output is not None:
        output.write_text(text + "\n", encoding="utf-8")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    command()
