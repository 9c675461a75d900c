"""The tables of docs/rounding.md; tools/write_tables.py writes them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from edgewhisper import search
from edgewhisper.evaluation import gate
from edgewhisper.evaluation.comparison import Comparison
from edgewhisper.recipes import find_recipe
from edgewhisper.recipes.sizes import exported_bytes
from edgewhisper.reports import SweepResult, markdown
from edgewhisper.reports.tuning import TuningResult
from edgewhisper.search import Search
from peers import random_checkpoint

RESULTS = Path(__file__).parent.parent / "docs" / "results"


def searched(model: str) -> str:
    """Return what each part of a model loses in fewer bits, of a search by `edgewhisper tune`."""
    result = TuningResult.read(RESULTS / f"search-{model}")
    if result is None or result.search is None:
        sys.exit(f"{RESULTS} holds no results of a search")
    notes = f"{search.summary(result.search)} Written by `{result.command}`."
    name = result.search.recipe.name
    candidate = result.candidates[name]
    if candidate.gate is None or candidate.weight_bytes is None:
        sys.exit(f"{name} was searched for {model} and not evaluated")
    spoken = sum(result.splits.values())
    verdict = (
        f"`{name}` is {candidate.weight_bytes / 1e6:.1f} MB. On {spoken} utterances of "
        f"{' and '.join(result.splits)}, {gate.explain(candidate.gate)}"
    )
    other = _other_sizes(result, result.search)
    return "\n\n".join([search.to_table(result.search), notes, verdict, other])


def _other_sizes(result: TuningResult, found: Search) -> str:
    """Return the least sum of losses for ten sizes, up to that of all parts in 8 bits."""
    size = result.candidates[found.recipe.name].computed_bytes or 0
    rest = size - sum(part.chosen.weight_bytes for part in found.sensitivities)
    parts = [part.options for part in found.sensitivities]
    sizes = [[option.weight_bytes for option in of_part] for of_part in parts]
    smallest, largest = sum(map(min, sizes)), sum(map(max, sizes))
    heads = ["MB, computed", "least sum", "parts in 4 bits", "in 3 bits", "in 2 bits"]
    rows = []
    for step in range(1, 11):
        limit = smallest + (largest - smallest) * step / 10
        chosen = search.choose(parts, limit)
        cells = [f"{(rest + limit) / 1e6:.1f}", f"{sum(1000 * o.loss for o in chosen):.3g}"]
        for bits in (4, 3, 2):
            named = zip(found.sensitivities, chosen, strict=True)
            cells.append(", ".join(p.scope[-1] for p, o in named if o.weights.bits == bits))
        rows.append(cells)
    return markdown.table(heads, rows)


def errors(bits: int) -> str:
    """Return what ways of rounding leave of layers' outputs in so many bits, in %."""
    result = json.loads((RESULTS / "rounding" / "errors.json").read_text())
    of_bits = [row for row in result["rows"] if row["bits"] == bits]
    ways = list(dict.fromkeys(row["way"] for row in of_bits))
    shares = {(row["part"], row["way"]): row["share"] for row in of_bits}
    rows = [
        (part, *(f"{100 * shares[part, way]:.2f}" for way in ways))
        for part in dict.fromkeys(row["part"] for row in of_bits)
    ]
    note = (
        f"{result['model']}, groups of 32; calibrated on {result['calibrated_on']} utterances of "
        f"{result['split']}, measured on {result['measured_on']} others. Written by "
        "`python tools/measure_rounding.py --librispeech DIR errors`."
    )
    return f"{markdown.table([f'{bits} bits', *ways], rows)}\n\n{note}"


def cost() -> str:
    """Return the time and memory of calibration and rounding."""
    result = json.loads((RESULTS / "rounding" / "cost.json").read_text())
    heads = ("model", "calibration, s for an utterance", "rounding, s", "peak memory, MB")
    rows = [
        (
            row["model"],
            f"{row['calibration_seconds'] / row['utterances']:.1f}",
            f"{row['rounding_seconds']:.0f}",
            f"{row['peak_rss_bytes'] / 1e6:.0f}",
        )
        for row in result["rows"]
    ]
    note = (
        f"{result['recipe']}, {result['rows'][0]['utterances']} utterances of {result['split']}; "
        f"processor time of one core, {result['machine']['cpu']}. Written by "
        "`python tools/measure_rounding.py --librispeech DIR cost --work DIR`."
    )
    return f"{markdown.table(heads, rows)}\n\n{note}"


def targets(base: SweepResult, tiny: SweepResult) -> str:
    """Return what was aimed at beside the recipe that comes closest, of sweeps over two models."""
    from transformers import WhisperConfig

    config = WhisperConfig(**random_checkpoint.sizes("small")).to_dict()
    small = exported_bytes(config, find_recipe("onnx-int4-whole"))
    aims = [
        ("whisper-base in 60 MB: the increase, upper end", 0.5, *_best(base, 60e6, _upper_end)),
        ("whisper-base in 52 MB: the increase, measured", 0.3, *_best(base, 52e6, _increase)),
        (
            "whisper-base with 3 bits: the increase, upper end",
            0.5,
            *_best(base, 50e6, _upper_end, "int3"),
        ),
        ("whisper-tiny.en in 30 MB: the increase, upper end", 0.5, *_best(tiny, 30e6, _upper_end)),
        ("whisper-small, computed: MB", 150, "onnx-int4-whole", small / 1e6),
    ]
    timed = {name: base.rtf(name) for name in ("onnx-int8", "onnx-int4-gptq", "onnx-int4-mixed")}
    whole = timed.pop("onnx-int8")
    aims += [
        ("time, of onnx-int8's on whisper-base", 1.05, name, factor / whole)
        for name, factor in timed.items()
        if factor is not None and whole is not None
    ]
    rows = (
        (figure, f"{limit:g}", recipe, f"{value:.4g}", "met" if value <= limit else "missed")
        for figure, limit, recipe, value in aims
    )
    return markdown.table(("figure", "at most", "recipe", "measured", ""), rows)


def _best(
    result: SweepResult, max_bytes: float, figure: Callable[[Comparison], float], name: str = ""
) -> tuple[str, float]:
    """Return the recipe within a size with the lowest figure, and that figure in points.

    With `name`, of the recipes that have it in theirs.
    """
    figures = {
        recipe: figure(row.gate.overall)
        for recipe, row in result.measured.items()
        if name in recipe
        and row.weight_bytes <= max_bytes
        and row.gate is not None
        and row.gate.overall is not None
    }
    return min(figures.items(), key=lambda item: item[1])


def _upper_end(comparison: Comparison) -> float:
    return comparison.interval.high


def _increase(comparison: Comparison) -> float:
    return comparison.d
