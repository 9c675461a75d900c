"""A bundle in a clean environment with its own wheel: whether it runs, and what it costs.

    python tools/try_runtime.py BUNDLE --work DIR --python python3.11 [--python ...]

Each interpreter gets a virtual environment under --work with nothing but the wheel that the
bundle brings and what that requires; then every command of the runtime is run there. Raw results go
to docs/results/runtime.json, the tables to docs/results/runtime.md.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import click

from edgewhisper_runtime import bundle as bundles
from edgewhisper_runtime.bundle import to_json
from edgewhisper_runtime.measure import machine
from edgewhisper_runtime.measure.profile import SPEECH

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
CLIP = SPEECH / "smoke" / "slt" / "1" / "slt-1-0001.opus"
IMPORT = "import edgewhisper_runtime.loading, edgewhisper_runtime.engines.onnx"
REPEATS = 5
_TIMES = {
    "bare interpreter": "bare_seconds",
    "`import`": "import_seconds",
    "`--help`": "help_seconds",
    "process start to a clip's text": "text_seconds",
}
_SIZES = {"peak RSS, MB": "peak_rss_bytes", "installed, MB": "installed_bytes"}
SHARE = 0.01  # of the installed closure: smaller packages are not named


def environment(python: str, wheel: Path, work: Path) -> Path:
    """Return the programs of a new virtual environment: the wheel and what it requires."""
    directory = work / Path(python).name
    subprocess.run([python, "-m", "venv", "--clear", directory], check=True)
    programs = directory / "bin"
    subprocess.run([programs / "python", "-m", "pip", "install", "-q", wheel], check=True)
    return programs


def seconds(command: list[Any]) -> float:
    """Return the median wall time of a command in fresh processes."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def attempt(python: str, bundle: Path, work: Path) -> dict[str, Any]:
    """Install the bundle's wheel for an interpreter; run every command; return the results."""
    (wheel,) = bundle.glob("*.whl")
    programs = environment(python, wheel, work)
    script = programs / "edgewhisper-runtime"

    def run(*arguments: Any) -> str:
        result = subprocess.run(
            [script, *arguments], check=True, stdout=subprocess.PIPE, text=True, cwd=work
        )
        return result.stdout

    run("verify", bundle)
    run("info", bundle)
    text = json.loads(run("transcribe", CLIP, "--bundle", bundle, "--json"))["text"]
    profile = json.loads(run("profile", bundle, "--json"))
    return {
        "python": profile["machine"]["python"],
        "libraries": profile["libraries"],
        "installed": profile["installed"],
        "text": text,
        "summary": profile["summary"],
        "import_seconds": seconds([programs / "python", "-c", IMPORT]),
        "help_seconds": seconds([script, "--help"]),
        "bare_seconds": seconds([programs / "python", "-c", "pass"]),
        "text_seconds": seconds([script, "transcribe", CLIP, "--bundle", bundle]),
    }


def to_markdown(result: dict[str, Any]) -> str:
    """Return the page."""
    host = result["machine"]
    rows = [
        (
            attempt["python"],
            *(f"{attempt[key]:.2f} s" for key in _TIMES.values()),
            f"{attempt['summary']['rtf']:.3f}",
            *(f"{attempt['summary'][key] / 1e6:.0f}" for key in _SIZES.values()),
        )
        for attempt in result["attempts"]
    ]
    heads = ("Python", *_TIMES, "RTF", *_SIZES)
    lines = ["# A bundle where there is only Python", ""]
    lines += [f"{result['bundle']}: the wheel that the bundle brings in an otherwise empty virtual"]
    lines += ["environment; `verify`, `info`, `transcribe` and `profile` were run there. Times are"]
    lines += [f"medians of {REPEATS} fresh processes on {host['cpu']}, {host['cores']} cores;"]
    lines += ["sizes count the bytecode that pip compiles.", ""]
    lines += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    newest = result["attempts"][-1]
    total = sum(newest["installed"].values())
    lines += [
        "",
        "What is installed, and what dominates it:",
        "",
        "| distribution | MB |",
        "|---|---|",
    ]
    lines += [
        f"| {name} {newest['libraries'].get(name, '')} | {size / 1e6:.1f} |"
        for name, size in newest["installed"].items()
        if size > SHARE * total
    ]
    command = "python tools/try_runtime.py BUNDLE --work DIR"
    lines += ["", f"Written by `{command}` from `docs/results/runtime.json`.", ""]
    return "\n".join(lines)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--work", type=click.Path(path_type=Path), required=True)
@click.option("--python", "interpreters", multiple=True, required=True)
def main(bundle: Path, work: Path, interpreters: tuple[str, ...]) -> None:
    """Try every interpreter and write the page."""
    work.mkdir(parents=True, exist_ok=True)
    bundle = bundle.resolve()
    result = {
        "bundle": bundles.verify(bundle).name,
        "machine": to_json(machine.describe()),
        "attempts": [attempt(python, bundle, work.resolve()) for python in interpreters],
    }
    (RESULTS / "runtime.json").write_text(json.dumps(result, ensure_ascii=False) + "\n")
    (RESULTS / "runtime.md").write_text(to_markdown(result))
    click.echo(to_markdown(result))


if __name__ == "__main__":
    main()
