"""Our bundles beside the engines a user would pick instead: same weights, machine, threads, audio.

    python tools/bench_peers.py --librispeech DIR --work DIR [--model whisper-base] [--rounds 3]

Each engine lives in a virtual environment of its own under --work, made here, and runs a model
converted here from the same checkpoint. Every measurement is a fresh process; engines take turns,
round after round. Raw results go to docs/results/peers/, the table to docs/results/peers.md.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from edgewhisper import checkpoints, pipeline
from edgewhisper.checkpoints import Checkpoint
from edgewhisper.evaluation import datasets, wer
from edgewhisper.recipes import find_recipe
from edgewhisper.workspace import Workspace
from edgewhisper_runtime import bundle
from edgewhisper_runtime.bundle import to_json
from edgewhisper_runtime.measure import machine, roofline

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results" / "peers"
TABLE = ROOT / "docs" / "results" / "peers.md"
WORKER = Path(__file__).parent / "peers" / "worker.py"
SPLIT = "test-other"
OURS = "edgewhisper"
INT8, INT4 = "EdgeWhisper onnx-int8", "EdgeWhisper onnx-int4"
_COLUMNS = (
    "engine", "WER %", "RTF", "of the fastest peer's", "CPU s per audio s",
    "fresh process to text, s", "peak RSS, MB", "model, MB", "installed, MB",
)  # fmt: skip
REMARKS = RESULTS / "remarks.md"  # the discussion of the figures
_FIRST_CLIP = 5.0  # seconds, of the clip that a fresh process is timed on


@dataclass(frozen=True)
class Contender:
    """An engine with a model: what the worker runs, in which environment, on which files."""

    name: str
    engine: str
    environment: str
    model: Path

    @property
    def model_bytes(self) -> int:
        """Size of all the model's files."""
        files = self.model.rglob("*") if self.model.is_dir() else [self.model]
        return sum(path.stat().st_size for path in files if path.is_file())


# What each environment holds; those that convert are needed once, to make a model.
REQUIREMENTS: dict[str, tuple[str, ...]] = {
    OURS: (str(ROOT / "runtime"),),
    "faster-whisper": ("faster-whisper==1.2.1", "soundfile"),
    "openvino-genai": ("openvino==2026.4.0", "openvino-genai==2026.4.0", "soundfile", "numpy"),
    "whisper.cpp": ("pywhispercpp==1.5.1", "soundfile"),
    "onnx-asr": ("onnx-asr==0.12.0", "onnxruntime==1.32.0", "soundfile"),
    "convert-onnx": ("torch==2.13.0", "optimum-onnx==0.1.0", "onnx", "onnxruntime"),
    "convert-openvino": ("torch==2.13.0", "optimum-intel[openvino]", "openvino-tokenizers"),
}


def environment(work: Path, name: str) -> Path:
    """Return the directory of an engine's virtual environment, made when it is not there."""
    directory = work / "environments" / name
    done = directory / "installed"
    if not done.exists():
        click.echo(f"installing {name}", err=True)
        subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
        pip = [str(directory / "bin" / "pip"), "install", "--quiet"]
        for requirement in REQUIREMENTS[name]:  # torch comes first and alone: see the Makefile
            subprocess.run([*pip, requirement], check=True)
        done.touch()
    return directory


def installed_bytes(directory: Path) -> int:
    """Return the size of an environment's packages in bytes, without pip and setuptools."""
    (packages,) = directory.glob("lib/python*/site-packages")
    return sum(
        path.stat().st_size
        for path in packages.rglob("*")
        if path.is_file()
        and path.relative_to(packages).parts[0].split("-")[0] not in {"pip", "setuptools"}
        and "__pycache__" not in path.parts
    )


def contenders(checkpoint: Checkpoint, work: Path) -> list[Contender]:
    """Convert the checkpoint for every engine, unless that is done already."""
    models = work / "models" / checkpoint.name
    models.mkdir(parents=True, exist_ok=True)
    bundles = []
    for recipe in ("onnx-int8", "onnx-int4"):
        directory = pipeline.stage_export(
            Workspace.from_environment(), checkpoint, find_recipe(recipe)
        ).path
        for context in ("adaptive", "full"):
            name = f"EdgeWhisper {recipe}, {context}"
            bundles.append(Contender(name, f"edgewhisper-{context}", OURS, directory))
    ctranslate2 = models / "ctranslate2"
    if not ctranslate2.exists():
        from ctranslate2.converters import TransformersConverter

        converter = TransformersConverter(str(checkpoint.path), copy_files=["tokenizer.json"])
        converter.convert(str(ctranslate2), quantization="int8")
    openvino = models / "openvino"
    if not openvino.exists():
        _optimum(work, "openvino", checkpoint, openvino, "--weight-format", "int8")
    onnx_asr = models / "onnx-asr"
    if not onnx_asr.exists():
        exported = models / "onnx-float32"
        _optimum(work, "onnx", checkpoint, exported)
        python = environment(work, "convert-onnx") / "bin" / "python"
        script = Path(__file__).parent / "peers" / "onnx_int8.py"
        subprocess.run([python, script, exported, onnx_asr], check=True)
    ggml = models / "ggml-q8_0.bin"
    if not ggml.exists():
        script = Path(__file__).parent / "peers" / "ggml.py"
        subprocess.run([sys.executable, str(script), str(checkpoint.path), str(ggml)], check=True)
    return [
        *bundles,
        Contender("faster-whisper int8", "faster-whisper", "faster-whisper", ctranslate2),
        Contender("OpenVINO GenAI int8", "openvino-genai", "openvino-genai", openvino),
        Contender("onnx-asr int8", "onnx-asr", "onnx-asr", onnx_asr),
        Contender("whisper.cpp q8_0", "whisper.cpp", "whisper.cpp", ggml),
    ]


def _optimum(work: Path, kind: str, checkpoint: Checkpoint, target: Path, *options: str) -> None:
    """Export a checkpoint with optimum, in the environment of that kind of export."""
    program = environment(work, f"convert-{kind}") / "bin" / "optimum-cli"
    task = ("--task", "automatic-speech-recognition-with-past")
    command: list[str | Path] = [
        program,
        "export",
        kind,
        "--model",
        checkpoint.path,
        *task,
        *options,
        target,
    ]
    subprocess.run(command, check=True)


def measure(contender: Contender, work: Path, threads: int, files: Sequence[Path]) -> Any:
    """Return the figures of the worker in a fresh process, and the time of its first text."""
    python = environment(work, contender.environment) / "bin" / "python"
    command = [python, WORKER, contender.engine, contender.model, threads, *files]
    start = time.time()
    result = subprocess.run(
        [str(part) for part in command], stdout=subprocess.PIPE, text=True, check=True
    )
    figures = json.loads(result.stdout.splitlines()[-1])
    return figures | {"first_text_seconds": figures.pop("first_text_at") - start}


def run(
    checkpoint: Checkpoint, dataset: datasets.Dataset, work: Path, rounds: int, threads: int
) -> dict[str, Any]:
    """Measure every contender once a round, in turns; write the raw results after each."""
    utterances = datasets.utterances(dataset, SPLIT)
    files = [utterance.path for utterance in utterances]
    short = min(utterances, key=lambda u: abs(u.duration - _FIRST_CLIP)).path
    entered = contenders(checkpoint, work)
    shutil.rmtree(work / "environments" / OURS, ignore_errors=True)  # it has an older runtime
    float32 = pipeline.stage(Workspace.from_environment(), checkpoint, find_recipe("fp32")).path
    sizes = {c.name: installed_bytes(environment(work, c.environment)) for c in entered}
    result: dict[str, Any] = {
        "model": checkpoint.name,
        "machine": to_json(machine.describe()),
        "threads": threads,
        "float32_bytes": bundle.read_manifest(float32).weight_bytes,
        "utterances": [
            {"id": u.id, "speaker": u.speaker, "reference": u.reference, "duration": u.duration}
            for u in utterances
        ],
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
    result["roofline"] = roofline.measure(entered[0].model, threads)
    RESULTS.mkdir(parents=True, exist_ok=True)
    for number in range(rounds):
        for contender in entered:
            click.echo(f"round {number + 1} of {rounds}: {contender.name}", err=True)
            row = result["contenders"][contender.name]
            row["runs"].append(measure(contender, work, threads, files))
            fresh = measure(contender, work, threads, [short])
            row["first_text_seconds"].append(fresh["first_text_seconds"])
            path = RESULTS / f"{checkpoint.name}.json"
            path.write_text(json.dumps(result, ensure_ascii=False) + "\n")
    return result


def to_table(rows: dict[str, dict[str, float]]) -> str:
    """Return the figures as Markdown: medians over the rounds, and ratios to the best peer."""
    peers = [figures for name, figures in rows.items() if not name.startswith("EdgeWhisper")]
    fastest = min(figures["rtf"] for figures in peers)
    lines = [
        f"| {' | '.join(_COLUMNS)} |",
        "|---" * len(_COLUMNS) + "|",
    ]
    lines += [
        f"| {name} | {f['wer']:.2f} | {f['rtf']:.3f} | {f['rtf'] / fastest:.2f} | {f['cpu']:.3f} "
        f"| {f['first']:.2f} | {f['rss'] / 1e6:.0f} | {f['model'] / 1e6:.1f} "
        f"| {f['installed'] / 1e6:.0f} |"
        for name, f in rows.items()
    ]
    return "\n".join(lines)


def to_targets(rows: dict[str, dict[str, float]], result: dict[str, Any]) -> str:
    """Return the targets beside the measured values, as Markdown."""
    adaptive, full = rows[f"{INT8}, adaptive"], rows[f"{INT8}, full"]
    peers = {name: f for name, f in rows.items() if not name.startswith("EdgeWhisper")}
    fastest, leanest = (min(f[key] for f in peers.values()) for key in ("rtf", "rss"))
    shares = {
        name: result["contenders"][f"{name}, full"]["weight_bytes"] / result["float32_bytes"]
        for name in (INT8, INT4)
    }
    first = peers["faster-whisper int8"]["first"]
    aims = [
        ("RTF of the fastest peer's, adaptive context", 0.33, adaptive["rtf"] / fastest),
        ("RTF of the fastest peer's, full windows", 0.9, full["rtf"] / fastest),
        ("weights, int8, of float32's", 0.27, shares[INT8]),
        ("weights, 4 bits, of float32's", 0.19, shares[INT4]),
        ("peak RSS of the leanest peer's", 1.0, adaptive["rss"] / leanest),
        ("peak RSS, MB", 250.0, adaptive["rss"] / 1e6),
        ("installed without Python, MB", 150.0, adaptive["installed"] / 1e6),
        ("fresh process to text, of faster-whisper's", 0.5, adaptive["first"] / first),
    ]
    lines = ["| figure | at most | measured | |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {limit:g} | {value:.3g} | {'met' if value <= limit else 'missed'} |"
        for name, limit, value in aims
    ]
    return "\n".join(lines)


def _figures(result: dict[str, Any], row: dict[str, Any]) -> dict[str, float]:
    runs = row["runs"]
    audio = sum(runs[0]["audio_seconds"])
    records = [
        wer.Record(hypothesis=text, seconds=0.0, **utterance)
        for utterance, text in zip(result["utterances"], runs[0]["texts"], strict=True)
    ]
    return {
        "wer": wer.summarize(records).wer,
        "rtf": statistics.median(sum(r["seconds"]) / audio for r in runs),
        "cpu": statistics.median(r["cpu_seconds"] / audio for r in runs),
        "first": statistics.median(row["first_text_seconds"]),
        "rss": statistics.median(r["peak_rss_bytes"] for r in runs),
        "model": row["model_bytes"],
        "installed": row["installed_bytes"],
    }


@click.command()
@click.option("--librispeech", "directory", type=click.Path(path_type=Path), required=True)
@click.option("--work", type=click.Path(path_type=Path), required=True)
@click.option("--model", default="whisper-base", show_default=True)
@click.option("--rounds", default=3, show_default=True, help="0: write the table again.")
@click.option("--threads", default=2, show_default=True)
def main(directory: Path, work: Path, model: str, rounds: int, threads: int) -> None:
    """Convert, measure in turns, and write the table."""
    if rounds:
        dataset = datasets.find_dataset(
            Workspace.from_environment(), splits=(SPLIT,), librispeech=directory
        )
        run(
            checkpoints.resolve(Workspace.from_environment(), model),
            dataset,
            work.resolve(),
            rounds,
            threads,
        )
    result = json.loads((RESULTS / f"{model}.json").read_text())
    rounds = min(len(row["runs"]) for row in result["contenders"].values())
    figures = {name: _figures(result, row) for name, row in result["contenders"].items()}
    host, table, targets = result["machine"], to_table(figures), to_targets(figures, result)
    seconds = sum(utterance["duration"] for utterance in result["utterances"])
    limits = "\n".join(
        ["| the roofline of onnx-int8 | |", "|---|---|"]
        + [f"| {name} | {value} |" for name, value in roofline.to_rows(result["roofline"])]
    )
    TABLE.write_text(
        "# Our bundles and the engines a user would pick instead\n\n"
        f"{model}, the same weights for all, {len(result['utterances'])} utterances of {SPLIT} "
        f"({seconds:.0f} s), one at a time, {result['threads']} threads, {host['cpu']} "
        f"({', '.join(host['isa'])}). Medians of {rounds} rounds, engines in turns, every "
        "measurement a fresh process; greedy, English, no timestamps.\n\n"
        f"{table}\n\n"
        f"What was aimed at, for {INT8.removeprefix('EdgeWhisper ')} with adaptive context where "
        f"nothing else is said:\n\n{targets}\n\n{REMARKS.read_text()}\n{limits}\n\n"
        "Written by `python tools/bench_peers.py --librispeech DIR --work DIR"
        f" --model {model} --rounds {rounds}` from `docs/results/peers/{model}.json`.\n"
    )
    click.echo(table)


if __name__ == "__main__":
    main()
