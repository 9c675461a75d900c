"""The tables of sweeps: all recipes, and parts of them; tools/write_tables.py writes them."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from edgewhisper import reports, sweeps
from edgewhisper.evaluation.comparison import Comparison
from edgewhisper.evaluation.gate import GateVerdict
from edgewhisper.recipes import all_recipes, measured
from edgewhisper.reports import SweepResult, markdown
from edgewhisper.reports.matrix import verdict
from edgewhisper_runtime.errors import amount

RESULTS = Path(__file__).parent.parent / "docs" / "results"
MODELS = ("whisper-base", "whisper-tiny.en")
# The recipes that README.md shows: each library's usual ones, and what is exported to run alone.
VARIANTS = (
    "fp32", "pytorch-int8", "pytorch-int8-per-tensor", "quanto-int8", "hqq-int4-g64",
    "bitsandbytes-nf4", "edgewhisper-int8", "edgewhisper-int4",
)  # fmt: skip
EXPORTS = ("fp32", "onnx-int8", "onnx-int4-gptq", "onnx-int4-mixed")
# Recipes with all tokens and with those of a language, for docs/vocabulary.md.
VOCABULARIES = ("fp32", "onnx-int8", "onnx-int8-en", "onnx-int4-gptq", "onnx-int4-gptq-en")
# The study's results for whisper-small, and the same recipes here.
HEADLINES = {
    "Quanto dynamic int8: 57 % smaller, WER below fp32's": ("quanto-int8",),
    "Quanto static int8 is worse than dynamic": ("quanto-int8-static-int8",),
    "nf4: 71 % smaller, a loss on noisy speech": ("bitsandbytes-nf4", "bitsandbytes-nf4-double"),
    "int3: 71 % smaller, a loss on noisy speech": ("hqq-int3-g64", "hqq-int3-g32"),
    "HQQ int4: 69 % smaller, clean speech kept": ("hqq-int4-g64",),
    "PyTorch dynamic int8: the fastest, 0.64 of fp32's RTF": ("pytorch-int8-per-tensor",),
}
CLOSE = 3.0  # points: recipes of which it matters how well their difference is known


@cache
def load(name: str) -> SweepResult:
    """Return the results of a sweep, with every figure of WER computed from its raw texts."""
    result = reports.read_sweep(RESULTS / name)
    if result is None:
        sys.exit(f"{RESULTS / name} holds no results of a sweep")
    return sweeps.rescore(result)


def results(sweep: str, shown: Sequence[str]) -> str:
    """Return what README.md shows of a sweep."""
    result = load(sweep)
    heads = ("recipe", "measured as", "MB", "WER, points from fp32", "gate", "RTF against fp32",
             "peak RSS, MB")  # fmt: skip
    data = ", ".join(f"{len(of)} of {split}" for split, of in result.utterances.items())
    timed = result.speed
    machine = f"{timed.machine.cpu}, {timed.threads} threads" if timed else "no machine"
    starred = result.passed_by_holm & set(shown)
    star = "*: with Holm's correction for all recipes of the sweep too. " if starred else ""
    note = (
        f"{result.model.name} on {result.dataset.name} ({data}), with 95 % intervals; RTF and "
        f"memory on {machine}. {star}Written by `python tools/write_tables.py` from what "
        f"`edgewhisper sweep` left in `docs/results/{sweep}`."
    )
    rows = (_cells(result, name) for name in shown)
    return f"{markdown.table(heads, rows)}\n\n{note}"


def _cells(result: SweepResult, name: str) -> list[str]:
    row, gate = result.measured[name], result.measured[name].gate
    if gate is None or gate.overall is None:
        wer = ", ".join(f"{of.wer:.2f} % {split}" for split, of in row.summary.items())
    else:
        interval = gate.overall.interval
        wer = f"{gate.overall.d:+.2f} ({interval.low:+.2f} to {interval.high:+.2f})"
    time, fp32, memory = result.rtf(name), result.rtf("fp32"), result.peak_rss_bytes(name)
    return [
        name,
        f"{row.recipe.exports[0].upper()} export" if row.recipe.exports else "variant",
        f"{row.weight_bytes / 1e6:.0f}",
        wer,
        verdict(result, name),
        f"{time / fp32:.2f}" if time and fp32 else "",
        f"{memory / 1e6:.0f}" if memory else "",
    ]


def summary(model: str) -> measured.Measured:
    """Return what `edgewhisper recipes` shows of a sweep."""
    result = load(model)
    fp32 = result.rtf("fp32")
    rows = {}
    for recipe, row in result.measured.items():
        own = result.rtf(recipe)
        overall = row.gate.overall if row.gate else None
        rows[recipe] = measured.Row(
            row.weight_bytes,
            round(overall.d, 4) if overall else 0.0,
            row.gate.verdict if row.gate else "passed",
            round(own / fp32, 4) if own and fp32 else None,
        )
    counts = ", ".join(f"{len(of)} of {split}" for split, of in result.utterances.items())
    return measured.Measured(model, f"{result.dataset.name}: {counts}", rows)


def matrix(name: str) -> str:
    """Return the whole table of a sweep."""
    return reports.to_table(load(name))


def part(name: str, shown: Sequence[str]) -> str:
    """Return the table of some recipes of a sweep."""
    result = load(name)
    note = f"Shown: {len(shown)} of {amount(len(result.rows), 'recipe')}; the note is of all."
    return f"{reports.to_table(result, shown)} {note}"


def whole_exports(name: str) -> str:
    """Return the table of the exports of a sweep that have the model's whole vocabulary."""
    result = load(name)
    exported = [
        recipe
        for recipe, row in result.rows.items()
        if row is result.baseline or (row.recipe.exports and not row.recipe.languages)
    ]
    return part(name, exported)


def verdicts(name: str) -> str:
    """Return the recipes on which fewer utterances, or utterances alone, gave another verdict.

    `earlier.json` has the verdicts on fewer utterances.
    """
    result = load(name)
    earlier = json.loads((RESULTS / name / "earlier.json").read_text())
    before, after = (
        sum(earlier["utterances"].values()),
        sum(len(utterances) for utterances in result.utterances.values()),
    )
    heads = ("recipe", f"of {before} utterances", f"of {after}", f"of {after}, speakers left out")
    rows = []
    kept = 0
    for recipe, row in result.measured.items():
        if row.gate is None or recipe not in earlier["verdicts"]:
            continue
        found = (earlier["verdicts"][recipe], row.gate.verdict, _over_utterances(row.gate))
        if len({*found}) == 1:
            kept += 1
        else:
            rows.append((recipe, *found))
    note = f"{name}; the verdicts on {amount(kept, 'other recipe')} are the same in all three."
    return f"{markdown.table(heads, rows)}\n\n{note}"


def _over_utterances(gate: GateVerdict) -> str:
    """Return the verdict by the intervals over utterances, whoever speaks them."""
    parts = [gate.overall, *(part.comparison for part in gate.splits.values())]
    intervals = [each.over_utterances for each in parts if each and each.over_utterances]
    if any(interval.low > gate.max_wer_increase for interval in intervals):
        return "failed"
    return "passed" if intervals[0].high <= gate.max_wer_increase else "not proven"


def devices(one: str, other: str) -> str:
    """Return what the recipes of both sweeps give on the device of each."""
    results = [load(one), load(other)]
    places = [result.device.split()[0] for result in results]
    splits = list(results[0].utterances)
    heads = (
        "recipe",
        *(f"WER % {split}, {place}" for split in splits for place in places),
        *(f"points from fp32, {place}" for place in places),
        "the same texts",
    )
    rows = []
    for recipe, row in results[1].measured.items():
        both = [results[0].measured[recipe], row]
        pairs = [
            (both[0].texts[split][key], text)
            for split in splits
            for key, text in row.texts[split].items()
        ]
        overall = [each.gate.overall if each.gate else None for each in both]
        rows.append(
            (
                recipe,
                *(f"{each.summary[split].wer:.2f}" for split in splits for each in both),
                *(f"{each.d:+.2f}" if each else "" for each in overall),
                f"{sum(a == b for a, b in pairs)} of {len(pairs)}",
            )
        )
    note = f"{results[1].device}: written by `{results[1].command}`."
    return f"{markdown.table(heads, rows)}\n\n{note}"


def missing() -> str:
    """Return which of the recipes that ship the sweeps have not measured."""
    rows = []
    shipped = [recipe.name for recipe in all_recipes()]
    for name in MODELS:
        absent = [recipe for recipe in shipped if recipe not in load(name).measured]
        done = f"{len(shipped) - len(absent)} of {len(shipped)}"
        rows.append((name, done, ", ".join(absent) or "none"))
    return markdown.table(("model", "measured", "not measured"), rows)


def headlines(name: str) -> str:
    """Return the study's headlines beside what the same recipes gave here."""
    result = load(name)
    splits = list(result.utterances)
    heads = ("the study, whisper-small", "here", "size", *splits, "RTF against fp32")
    rows = []
    for claim, recipes in HEADLINES.items():
        for recipe in recipes:
            row = result.measured.get(recipe)
            if row is None or row.comparison is None:
                continue
            smaller = 100 * (1 - row.weight_bytes / result.baseline.weight_bytes)
            cells = [claim, recipe, f"{smaller:.1f} % smaller"]
            cells += [_verdict(row.comparison[split]) for split in splits]
            speeds = [result.rtf(name) for name in (recipe, "fp32")]
            cells.append("" if None in speeds else f"{speeds[0] / speeds[1]:.2f}")  # type: ignore[operator]
            rows.append(cells)
    return markdown.table(heads, rows)


def _verdict(comparison: Comparison) -> str:
    interval = comparison.interval
    words = "no difference shown"
    if comparison.difference_shown:
        words = "worse" if comparison.d > 0 else "better"
    return f"{words} ({comparison.d:+.2f}: {interval.low:+.2f} to {interval.high:+.2f})"


def resolution() -> str:
    """Return how finely these utterances tell two recipes apart.

    The half-width is the median, over recipes close to fp32, of half the 95 % interval of
    their difference; the last column is how many utterances would make it half a point.
    """
    heads = ("model", "split", "utterances", "words", "half-width, points", "for half a point")
    rows = []
    for name in MODELS:
        result = load(name)
        for split in result.utterances:
            intervals = [
                row.comparison[split].interval
                for row in result.measured.values()
                if row.comparison is not None and abs(row.comparison[split].d) < CLOSE
            ]
            half = statistics.median((interval.high - interval.low) / 2 for interval in intervals)
            baseline = result.baseline.summary[split]
            needed = baseline.utterances * (half / 0.5) ** 2
            counts = (baseline.utterances, baseline.words)
            rows.append((name, split, *counts, f"{half:.2f}", f"{needed:.0f}"))
    return markdown.table(heads, rows)
