"""Write the tables of the documentation from stored raw results and from the code.

    python tools/write_tables.py [--check]

A table stands between `<!-- table: NAME -->` and `<!-- end -->`. Results are those of `edgewhisper
sweep` and `edgewhisper ablate` in docs/results/. With --check nothing is written; the exit code is
1 if a table is out of date.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import click

from edgewhisper import reports, sweeps
from edgewhisper.evaluation.comparison import Comparison
from edgewhisper.recipes import all_recipes
from edgewhisper.reports import SweepResult
from edgewhisper_runtime import cli, errors
from edgewhisper_runtime.cli import streams

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
MODELS = ("whisper-base", "whisper-tiny.en")
# The recipes that README.md shows: each library's usual ones, and the smallest.
SHOWN = (
    "fp32", "pytorch-int8", "pytorch-int8-per-tensor", "quanto-int8", "hqq-int4-g64",
    "bitsandbytes-nf4", "edgewhisper-int8", "edgewhisper-int4", "onnx-int8", "onnx-int4",
)  # fmt: skip
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


def results() -> str:
    """Return what README.md shows of the sweep over whisper-base."""
    return reports.to_table(load("whisper-base"), SHOWN)


def matrix(name: str) -> str:
    """Return the whole table of a sweep."""
    return reports.to_table(load(name))


def missing() -> str:
    """Return which of the recipes that ship the sweeps have not measured."""
    lines = ["| model | measured | not measured |", "|---|---|---|"]
    shipped = [recipe.name for recipe in all_recipes()]
    for name in MODELS:
        absent = [recipe for recipe in shipped if recipe not in load(name).measured]
        done = f"{len(shipped) - len(absent)} of {len(shipped)}"
        lines.append(f"| {name} | {done} | {', '.join(absent) or 'none'} |")
    return "\n".join(lines)


def headlines(name: str) -> str:
    """Return the study's headlines beside what the same recipes gave here."""
    result = load(name)
    splits = list(result.utterances)
    lines = [
        f"| the study, whisper-small | here | size | {' | '.join(splits)} | RTF against fp32 |",
        "|---" * (len(splits) + 4) + "|",
    ]
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
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


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
    lines = [
        "| model | split | utterances | words | half-width, points | for half a point |",
        "|---|---|---|---|---|---|",
    ]
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
            lines.append(
                f"| {name} | {split} | {baseline.utterances} | {baseline.words} | {half:.2f} | "
                f"{needed:.0f} |"
            )
    return "\n".join(lines)


def exit_codes() -> str:
    """Every exit code and what it means, from the error classes."""
    classes: list[type[errors.EdgeWhisperError]] = [errors.EdgeWhisperError]
    classes += errors.EdgeWhisperError.__subclasses__()
    family = {error.exit_code: (error.__doc__ or "").strip().splitlines()[0] for error in classes}
    family |= {
        0: "Success.",
        2: "Wrong command line.",
        streams.INTERNAL_ERROR: "A defect in EdgeWhisper; `--debug` shows where.",
        cli.INTERRUPTED: "Interrupted; what was finished is kept.",
    }
    rows = [f"| {code} | {meaning} |" for code, meaning in sorted(family.items())]
    return "\n".join(["| exit code | meaning |", "|---|---|", *rows])


def hostile(name: str) -> str:
    """Return what the inputs of a corpus ended in, by kind."""
    result = json.loads((RESULTS / "reliability" / f"{name}.json").read_text())
    lines = [
        "| kind | tried | handled | refused | bad | seconds | slowest |",
        "|---|---|---|---|---|---|---|",
    ]
    outcomes = ("handled", "refused", "bad")
    total = dict.fromkeys((*outcomes, "seconds"), 0) | {"slowest": 0.0}
    for kind, row in [*result["kinds"].items(), ("all", total)]:
        counts = [row[outcome] for outcome in outcomes]
        cells = [kind, sum(counts), *counts, f"{row['seconds']:.0f}", f"{row['slowest']:.1f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
        for key in total:
            total[key] = max(total[key], row[key]) if key == "slowest" else total[key] + row[key]
    lines += [f"\nBad: {bad['kind']}, {bad['name']}: {bad['outcome']}" for bad in result["bad"]]
    return "\n".join(lines)


def hostile_tests() -> str:
    """Return how many tests try each kind of hostile input, and the command that runs them."""
    result = json.loads((RESULTS / "reliability" / "tests.json").read_text())
    lines = ["| what is tried | tests | command |", "|---|---|---|"]
    lines += [
        f"| {kind} | {row['tests']} | `pytest {row['path']}` |" for kind, row in result.items()
    ]
    return "\n".join(lines)


TABLES: dict[Path, dict[str, Callable[[], str]]] = {
    ROOT / "README.md": {"results": results, "exit codes": exit_codes},
    ROOT / "docs" / "reliability.md": {
        "audio": partial(hostile, "audio"),
        "bundles": partial(hostile, "bundles"),
        "tests": hostile_tests,
    },
    RESULTS / "matrix.md": {
        "missing": missing,
        "resolution": resolution,
        **{
            f"{what.__name__} {name}": partial(what, name)
            for what in (matrix, headlines)
            for name in MODELS
        },
        "ablation": partial(matrix, "ablation"),
    },
}


@click.command()
@click.option("--check", is_flag=True, help="Only tell whether the tables are up to date.")
def main(check: bool) -> None:
    """Write every table of the documentation, and the figures that the results hold of texts."""
    for name in (*MODELS, "ablation"):
        if not check:
            reports.write_sweep(load(name), RESULTS / name)
        elif load(name) != reports.read_sweep(RESULTS / name):
            sys.exit(f"the figures of {RESULTS / name} are out of date: run {sys.argv[0]}")
    for path, tables in TABLES.items():
        text = path.read_text()
        for name, table in tables.items():
            pattern = re.compile(
                rf"(<!-- table: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL
            )
            if not pattern.search(text):
                sys.exit(f"{path} has no place for the table {name!r}")
            content = table()
            text = pattern.sub(lambda match, new=content: f"{match[1]}{new}\n{match[2]}", text)  # type: ignore[misc] # the default binds the loop's value
        if not check:
            path.write_text(text)
        elif text != path.read_text():
            sys.exit(f"{path} is out of date: run python tools/write_tables.py")


if __name__ == "__main__":
    main()
