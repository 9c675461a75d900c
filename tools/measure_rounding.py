"""What the ways of rounding leave of layers' outputs, and what calibration costs.

    python tools/measure_rounding.py --librispeech DIR errors
    python tools/measure_rounding.py --librispeech DIR cost --work DIR

Errors are of whisper-tiny.en, on other utterances of dev-clean than those that are calibrated on.
Time and memory are of whisper-tiny.en, whisper-base, and whisper-small's architecture with random
weights, each in a fresh process on one core; what is there already is not measured again. Raw
results go to docs/results/rounding/, from where tools/write_tables.py takes the tables of
docs/rounding.md. The checkpoint with random weights is written below --work.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from edgewhisper import checkpoints
from edgewhisper.checkpoints import Checkpoint
from edgewhisper.evaluation import calibration, datasets, librispeech
from edgewhisper.evaluation.datasets import Utterance
from edgewhisper.quantizers.activations import OUTPUT, Inputs, measure, source
from edgewhisper.quantizers.edgewhisper import replacements
from edgewhisper.quantizers.scope import part_of
from edgewhisper.recipes import find_recipe
from edgewhisper.recipes.schema import Rounding, Weights
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.bundle import to_json
from edgewhisper_runtime.measure import machine
from peers import random_checkpoint

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "rounding"
SPLIT = "dev-clean"
CALIBRATED_ON = 8  # utterances
WAYS: tuple[Rounding, ...] = ("nearest", "searched", "weighted", "error-feedback")
SYMMETRIC = "error-feedback, symmetric"
RECIPE = find_recipe("onnx-int4-whole")


def formats() -> Iterable[tuple[int, str, Weights]]:
    """Yield bits, the name of a way of rounding, and the weights of a recipe."""
    for bits in (4, 3, 2):
        own = replace(RECIPE.weights, dtype=f"int{bits}")  # type: ignore[arg-type] # a dtype
        for way in WAYS:
            yield bits, way, replace(own, rounding=way)
        yield bits, SYMMETRIC, replace(own, method="symmetric")


def mean_square(weight: Any, bias: Any, inputs: Inputs) -> float:
    """Return E |W x + b|^2 from the statistics of x."""
    varying = ((weight @ inputs.covariance) * weight).sum()
    return float(varying + (weight @ inputs.mean + bias).square().sum())


def errors(checkpoint: Checkpoint, speech: list[Utterance]) -> list[dict[str, Any]]:
    """Return the mean share of error in the outputs of each part's layers, by bits and way."""
    import torch

    calibrated = datasets.thinned(speech, CALIBRATED_ON)
    others = [utterance for utterance in speech if utterance not in calibrated]
    model = checkpoint.load()
    names = [name for name, _ in model.named_modules() if part_of(name)]
    own, other = (
        measure(model, names, partial(calibration.run, model, checkpoint, utterances))
        for utterances in (calibrated, others)
    )
    rows = []
    for bits, way, weights in formats():
        click.echo(f"{bits} bits, {way}", err=True)
        scope = tuple(part for part in RECIPE.scope if part != "convolution")
        recipe = replace(RECIPE, weights=weights, overrides=(), scope=scope)
        shares: dict[str, list[float]] = defaultdict(list)
        with torch.no_grad():
            for name, layer in replacements(model, recipe, own):
                if name == OUTPUT:  # the embedding's codes, which are measured where it multiplies
                    continue
                exact: Any = model.get_submodule(name)
                codes: Any = layer.codes
                weight, inputs = exact.weight.flatten(1), other[source(name)]
                bias, corrected = (getattr(each, "bias", None) for each in (exact, layer))
                wrong = codes.values() - weight
                shift = 0 if bias is None else corrected - bias
                error = mean_square(wrong, shift, inputs)
                whole = mean_square(weight, 0 if bias is None else bias, inputs)
                shares[str(part_of(name))].append(error / whole)
        rows += [
            {"bits": bits, "way": way, "part": part, "share": sum(of) / len(of)}
            for part, of in shares.items()
        ]
    return rows


def cost(checkpoint: Checkpoint, speech: list[Utterance]) -> dict[str, Any]:
    """Return the processor time in seconds and the peak memory in bytes of a whole recipe."""
    import torch

    torch.set_num_threads(1)
    model = checkpoint.load()
    names = [name for name, _ in model.named_modules() if part_of(name)]
    started = time.process_time()
    inputs = measure(model, names, partial(calibration.run, model, checkpoint, speech))
    calibrated = time.process_time()
    with torch.no_grad():
        for name, layer in replacements(model, RECIPE, inputs):
            model.set_submodule(name, layer)
    return {
        "model": checkpoint.path.name,
        "utterances": len(speech),
        "calibration_seconds": calibrated - started,
        "rounding_seconds": time.process_time() - calibrated,
        "peak_rss_bytes": machine.peak_rss(),
    }


def write(name: str, content: dict[str, Any]) -> None:
    """Write raw results."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    about = {"machine": to_json(machine.describe()), "split": SPLIT}
    (RESULTS / name).write_text(json.dumps(about | content, indent=1) + "\n")


@click.group()
@click.option("--librispeech", "root", type=click.Path(path_type=Path), required=True)
@click.pass_context
def main(context: click.Context, root: Path) -> None:
    """Measure what rounding leaves, or what calibration costs."""
    card = librispeech.card(root)
    context.obj = datasets.of_split(card, SPLIT, RECIPE.calibration.utterances)


@main.command("errors")
@click.pass_obj
def write_errors(speech: list[Utterance]) -> None:
    """Measure the errors that each way of rounding leaves of layers' outputs."""
    checkpoint = checkpoints.resolve(Workspace.from_environment(), "whisper-tiny.en")
    content = {
        "model": checkpoint.name,
        "calibrated_on": CALIBRATED_ON,
        "measured_on": len(speech) - CALIBRATED_ON,
        "rows": errors(checkpoint, speech),
    }
    write("errors.json", content)


@main.command("cost")
@click.option("--work", type=click.Path(path_type=Path), required=True)
@click.pass_obj
def write_cost(speech: list[Utterance], work: Path) -> None:
    """Measure the time and memory of calibration and rounding."""
    workspace = Workspace.from_environment()
    base = checkpoints.resolve(workspace, "whisper-base")
    small = work / "whisper-small-random"
    if not small.exists():
        random_checkpoint.make(base, "small", 30, small)
    results = RESULTS / "cost.json"
    rows = json.loads(results.read_text())["rows"] if results.exists() else []
    for model in ("whisper-tiny.en", "whisper-base", str(small)):
        checkpoint = checkpoints.resolve(workspace, model)
        if checkpoint.path.name in [row["model"] for row in rows]:
            continue
        click.echo(f"time and memory of {checkpoint.path.name}", err=True)
        with multiprocessing.get_context("spawn").Pool(1) as process:
            few = datasets.thinned(speech, CALIBRATED_ON)
            rows.append(process.apply(cost, (checkpoint, few)))
        write(results.name, {"recipe": RECIPE.name, "rows": rows})


if __name__ == "__main__":
    main()
