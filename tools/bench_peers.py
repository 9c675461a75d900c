"""Our bundles beside the engines a user would pick instead: same weights, machine, threads, audio.

    python tools/bench_peers.py --librispeech DIR --work DIR [--model whisper-base] [--rounds 3]
    python tools/bench_peers.py --librispeech DIR --work DIR --random small --tokens 40

Each engine lives in a virtual environment of its own under --work, made here, and runs a model
converted here from the same checkpoint. Every measurement is a fresh process; engines take turns,
round after round. With --random the model is a real architecture with random weights and a text of
a fixed number of tokens, for sizes and times alone. Raw results go to docs/results/peers/,
the table to docs/results/peers.md.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from edgewhisper import checkpoints, pipeline
from edgewhisper.checkpoints import Checkpoint
from edgewhisper.evaluation import datasets, wer
from edgewhisper.evaluation.datasets import Dataset, Utterance
from edgewhisper.recipes import find_recipe
from edgewhisper.workspace import Workspace
from edgewhisper_runtime import bundle
from edgewhisper_runtime.bundle import to_json
from edgewhisper_runtime.errors import NotMeasurableError
from edgewhisper_runtime.measure import machine, roofline
from edgewhisper_runtime.measure.conditions import Conditions, Watch
from peers import random_checkpoint
from peers.contenders import (
    OURS,
    REQUIREMENTS,
    ROOT,
    Contender,
    contenders,
    environment,
    in_other_modes,
    installed_bytes,
)

RESULTS = ROOT / "docs" / "results" / "peers"
TABLE = ROOT / "docs" / "results" / "peers.md"
WORKER = Path(__file__).parent / "peers" / "worker.py"
SPLIT = "test-other"
INT8 = "EdgeWhisper onnx-int8"
_COLUMNS = (
    "engine", "WER %", "RTF", "of the fastest peer's", "CPU s per audio s",
    "fresh process to text, s", "peak RSS, MB", "model, MB", "installed, MB",
)  # fmt: skip
REMARKS = RESULTS / "remarks.md"  # the discussion of the figures
_FIRST_CLIP = 5.0  # seconds, of the clip that a fresh process is timed on


def measure(contender: Contender, work: Path, threads: int, files: Sequence[Path]) -> Any:
    """Return the figures of the worker in a fresh process, and the time of its first text."""
    python = environment(work, contender.environment) / "bin" / "python"
    command = [python, WORKER, contender.engine, contender.model, threads, contender.mode, *files]
    watch = Watch(threads)
    start = time.time()
    result = subprocess.run(
        [str(part) for part in command], stdout=subprocess.PIPE, text=True, check=True
    )
    figures = json.loads(result.stdout.splitlines()[-1])
    first = figures.pop("first_text_at") - start
    return figures | {"first_text_seconds": first, "conditions": to_json(watch.conditions())}


def run(
    name: str,
    checkpoint: Checkpoint,
    utterances: Sequence[Utterance],
    dataset: Dataset | None,
    work: Path,
    rounds: int,
    threads: int,
    text: str | None,
) -> dict[str, Any]:
    """Measure every contender once a round, in turns; write the raw results after each.

    `name` is that of the results; `dataset` that of a checkpoint that was trained; `text` that of a
    random one, the same for all utterances.
    """
    files = [utterance.path for utterance in utterances]
    short = min(utterances, key=lambda u: abs(u.duration - _FIRST_CLIP)).path
    entered = contenders(checkpoint, work, dataset)
    entered += in_other_modes(entered)
    shutil.rmtree(work / "environments" / OURS, ignore_errors=True)  # it has an older runtime
    float32 = pipeline.stage(Workspace.from_environment(), checkpoint, find_recipe("fp32")).path
    sizes = {c.name: installed_bytes(environment(work, c.environment)) for c in entered}
    result: dict[str, Any] = {
        "model": name,
        "machine": to_json(machine.describe()),
        "threads": threads,
        "float32_bytes": bundle.read_manifest(float32).weight_bytes,
        "utterances": [
            {
                "id": u.id,
                "speaker": u.speaker,
                "reference": text or u.reference,
                "duration": u.duration,
            }
            for u in utterances
        ],
        "random": text is not None,
        "contenders": {
            c.name: {
                **asdict(c) | {"model": c.model.name},
                "model_bytes": c.model_bytes,
                "weight_bytes": bundle.read_manifest(c.model).weight_bytes
                if c.environment == OURS
                else None,
                "installed_bytes": sizes[c.name],
                "requirements": [r for r in REQUIREMENTS[c.environment] if "/" not in r],
                "runs": [],
                "first_text_seconds": [],
            }
            for c in entered
        },
    }
    try:
        rows = roofline.to_rows(roofline.measure(entered[0].model, threads))
    except NotMeasurableError as error:
        rows = [("not measurable", str(error))]
    result["roofline"] = rows
    RESULTS.mkdir(parents=True, exist_ok=True)
    for number in range(rounds):
        for contender in entered:
            click.echo(f"round {number + 1} of {rounds}: {contender.name}", err=True)
            row = result["contenders"][contender.name]
            row["runs"].append(measure(contender, work, threads, files))
            fresh = measure(contender, work, threads, [short])
            row["first_text_seconds"].append(fresh["first_text_seconds"])
            path = RESULTS / f"{name}.json"
            path.write_text(json.dumps(result, ensure_ascii=False) + "\n")
    return result


def to_table(rows: dict[str, dict[str, Any]]) -> str:
    """Return the figures as Markdown: medians over the rounds, ratios to the best of that mode."""
    lines = [
        f"| {' | '.join(_COLUMNS)} |",
        "|---" * len(_COLUMNS) + "|",
    ]
    lines += [
        f"| {name} | {f['wer']:.2f} | {f['rtf']:.3f} ({f['low']:.3f} to {f['high']:.3f}) "
        f"| {f['rtf'] / fastest(rows, f['mode']):.2f} | {f['cpu']:.3f} "
        f"| {f['first']:.2f} | {f['rss'] / 1e6:.0f} | {f['model'] / 1e6:.1f} "
        f"| {f['installed'] / 1e6:.0f} |"
        for name, f in rows.items()
    ]
    return "\n".join(lines)


def fastest(rows: dict[str, dict[str, Any]], mode: str) -> float:
    """Return the lowest real-time factor of the peers in a mode."""
    return min(
        f["rtf"]
        for name, f in rows.items()
        if f["mode"] == mode and not name.startswith("EdgeWhisper")
    )


def to_targets(rows: dict[str, dict[str, Any]], result: dict[str, Any]) -> str:
    """Return the targets beside the measured values, as Markdown."""
    adaptive, full = rows[f"{INT8}, adaptive"], rows[f"{INT8}, full"]
    faster, float32 = rows["faster-whisper int8"], rows["OpenVINO GenAI int8, float32"]
    beam, batch = (rows[f"{INT8}, full, {mode}"] for mode in ("beam", "batch"))
    best = fastest(rows, "greedy")
    leanest = min(f["rss"] for name, f in rows.items() if not name.startswith("EdgeWhisper"))
    int8, int4 = (
        next(
            contender["weight_bytes"] / result["float32_bytes"]
            for name, contender in result["contenders"].items()
            if name.startswith("EdgeWhisper") and bits in name
        )
        for bits in ("int8", "int4")
    )
    aims = [
        ("RTF of the fastest peer's, adaptive context", 0.35, adaptive["rtf"] / best),
        ("RTF of the fastest peer's, full windows", 1.0, full["rtf"] / best),
        ("RTF of OpenVINO's without bfloat16, full windows", 0.8, full["rtf"] / float32["rtf"]),
        ("RTF of faster-whisper's, full windows", 0.5, full["rtf"] / faster["rtf"]),
        ("beam of 5, of our greedy RTF", 1.5, beam["rtf"] / full["rtf"]),
        ("beam of 5, of faster-whisper's", 0.35,
         beam["rtf"] / rows["faster-whisper int8, beam"]["rtf"]),
        ("batch of 8, of one by one", 0.6, batch["rtf"] / full["rtf"]),
        ("weights, int8, of float32's", 0.27, int8),
        ("weights, 4 bits, of float32's", 0.19, int4),
        ("peak RSS of the leanest peer's", 1.0, adaptive["rss"] / leanest),
        ("installed without Python, MB", 150.0, adaptive["installed"] / 1e6),
    ]  # fmt: skip
    if not result["random"]:
        aims += [
            ("peak RSS, MB", 200.0, adaptive["rss"] / 1e6),
            ("fresh process to text, s", 0.45, adaptive["first"]),
        ]
    lines = ["| figure | at most | measured | |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {limit:g} | {value:.3g} | {'met' if value <= limit else 'missed'} |"
        for name, limit, value in aims
    ]
    return "\n".join(lines)


def _counted(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row's runs on a quiet machine, all of them where it never was."""
    quiet = [r for r in row["runs"] if not bundle.parse(Conditions, r["conditions"]).disturbed]
    return quiet or row["runs"]


def read(model: str) -> dict[str, Any]:
    """Return the stored results of a model."""
    result: dict[str, Any] = json.loads((RESULTS / f"{model}.json").read_text())
    return result


def figures(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each row's figures, medians over the rounds: bytes, seconds, WER in %."""
    return {name: _figures(result, row) for name, row in result["contenders"].items()}


def _figures(result: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    runs = _counted(row)
    audio = sum(runs[0]["audio_seconds"])
    records = [
        wer.Record(hypothesis=text, seconds=0.0, **utterance)
        for utterance, text in zip(result["utterances"], runs[0]["texts"], strict=True)
    ]
    factors = [sum(run["seconds"]) / audio for run in runs]
    return {
        "mode": row["mode"],
        "wer": wer.summarize(records).wer,
        "rtf": statistics.median(factors),
        "low": min(factors),
        "high": max(factors),
        "cpu": statistics.median(run["cpu_seconds"] / audio for run in runs),
        "first": statistics.median(row["first_text_seconds"]),
        "rss": statistics.median(run["peak_rss_bytes"] for run in runs),
        "model": row["model_bytes"],
        "installed": row["installed_bytes"],
    }


def to_page(result: dict[str, Any], command: str) -> str:
    """Return the page: the table, the targets, and the roofline."""
    rows = result["contenders"]
    shown = figures(result)
    runs = [run for row in rows.values() for run in row["runs"]]
    counted = sum(len(_counted(row)) for row in rows.values())
    host, rounds = result["machine"], max(len(row["runs"]) for row in rows.values())
    seconds = sum(utterance["duration"] for utterance in result["utterances"])
    counted_rounds = f"Medians of {rounds} rounds" if rounds > 1 else "One round"
    weights = "the same weights for all"
    if result["random"]:
        weights = (
            "**random weights** and a text of a fixed number of tokens, the same for all: for "
            "sizes and times alone (a WER of 0 says that an engine decoded exactly those tokens)"
        )
    limits = "\n".join(
        ["| the roofline of onnx-int8 | |", "|---|---|"]
        + [f"| {name} | {value} |" for name, value in result["roofline"]]
    )
    remarks = REMARKS.read_text() if not result["random"] else ""
    return (
        "# Our bundles and the engines a user would pick instead\n\n"
        f"{result['model']}, {weights}, {len(result['utterances'])} utterances of {SPLIT} "
        f"({seconds:.0f} s), {result['threads']} threads, {host['cpu']} "
        f"({', '.join(host['isa'])}). {counted_rounds}, engines in turns, every "
        "measurement a fresh process; English, no timestamps, greedy and one at a time where "
        "nothing else is said. Ratios are to the fastest peer of the same mode. "
        f"{len(runs) - counted} of {len(runs)} runs do not count, as other work disturbed them.\n\n"
        f"{to_table(shown)}\n\n"
        f"What was aimed at, for {INT8.removeprefix('EdgeWhisper ')} with adaptive context where "
        f"nothing else is said:\n\n{to_targets(shown, result)}\n\n{remarks}\n{limits}\n\n"
        f"Written by `{command}` from `docs/results/peers/{result['model']}.json`.\n"
    )


@click.command()
@click.option("--librispeech", "directory", type=click.Path(path_type=Path), required=True)
@click.option("--work", type=click.Path(path_type=Path), required=True)
@click.option("--model", default="whisper-base", show_default=True)
@click.option("--random", "architecture", type=click.Choice([*random_checkpoint.ARCHITECTURES]))
@click.option("--tokens", default=40, show_default=True, help="Of a random checkpoint's text.")
@click.option("--limit", type=int, help="Only so many utterances.")
@click.option("--rounds", default=3, show_default=True, help="0: write the table again.")
@click.option("--threads", default=2, show_default=True)
def main(
    directory: Path,
    work: Path,
    model: str,
    architecture: str | None,
    tokens: int,
    limit: int | None,
    rounds: int,
    threads: int,
) -> None:
    """Convert, measure in turns, and write the table."""
    name = f"whisper-{architecture}-random" if architecture else model
    if rounds:
        workspace = Workspace.from_environment()
        dataset = datasets.find_dataset(workspace, splits=(SPLIT,), librispeech=directory)
        utterances = datasets.utterances(dataset, SPLIT)
        checkpoint, text = checkpoints.resolve(workspace, model), None
        work = work.resolve()
        if architecture:
            target = work / "checkpoints" / name
            text = random_checkpoint.make(checkpoint, architecture, tokens, target)
            checkpoint = checkpoints.resolve(workspace, str(target))
        known = None if architecture else dataset
        run(name, checkpoint, utterances[:limit], known, work, rounds, threads, text)
    result = read(name)
    chosen = f"--random {architecture} --tokens {tokens}" if architecture else f"--model {model}"
    page = to_page(
        result,
        f"python tools/bench_peers.py --librispeech DIR --work DIR {chosen}",
    )
    (TABLE.with_name(f"peers-{name}.md") if architecture else TABLE).write_text(page)
    click.echo(page)


if __name__ == "__main__":
    main()
