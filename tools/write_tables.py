"""Write the tables of the documentation from stored raw results and from the code.

    python tools/write_tables.py [--check]

A table stands between `<!-- table: NAME -->` and `<!-- end -->`. Results are those of `edgewhisper
sweep`, `ablate` and `tune`, and of other tools, in docs/results/. With --check nothing is written;
the exit code is 1 if a table is out of date.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path

import click

import bench_peers
import rounding_tables
from edgewhisper import cli as host_cli
from edgewhisper import reports, sweeps
from edgewhisper.evaluation.comparison import Comparison
from edgewhisper.recipes import all_recipes, measured
from edgewhisper.reports import SweepResult
from edgewhisper.reports.tuning import TuningResult, to_table
from edgewhisper_runtime import cli, errors
from edgewhisper_runtime.bundle import to_json
from edgewhisper_runtime.cli import streams

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
MODELS = ("whisper-base", "whisper-tiny.en")
ROUNDING = tuple(f"rounding-{name}" for name in MODELS)
VOCABULARY = "vocabulary-whisper-base"
NOISE = "noise"
# The recipes that README.md shows: each library's usual ones, and what is exported to run alone.
VARIANTS = (
    "fp32", "pytorch-int8", "pytorch-int8-per-tensor", "quanto-int8", "hqq-int4-g64",
    "bitsandbytes-nf4", "edgewhisper-int8", "edgewhisper-int4",
)  # fmt: skip
EXPORTS = ("fp32", "onnx-int8", "onnx-int4-gptq", "onnx-int4-mixed")
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
    heads = ("recipe", "measured as", "MB", "WER, points more than fp32", "gate",
             "time of fp32's", "peak MB")  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    lines += [f"| {' | '.join(_cells(result, name))} |" for name in shown]
    data = ", ".join(f"{len(of)} of {split}" for split, of in result.utterances.items())
    timed = result.speed
    machine = f"{timed.machine.cpu}, {timed.threads} threads" if timed else "no machine"
    note = (
        f"{result.model.name} on {result.dataset.name} ({data}), with 95 % intervals; time and "
        f"memory on {machine}. Written by `python tools/write_tables.py` from what `edgewhisper "
        f"sweep` left in `docs/results/{sweep}`."
    )
    return "\n".join([*lines, "", note])


def engines() -> str:
    """Return what README.md shows of the peer benchmark: greedy decoding, one file at a time."""
    result = bench_peers.read("whisper-base")
    heads = ("engine", "RTF", "WER %", "fresh process to text, s", "peak MB", "model, MB")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, row in bench_peers.figures(result).items():
        if row["mode"] == "greedy":
            rounded = [f"{row[key] / 1e6:.0f}" for key in ("rss", "model")]
            cells = [name, f"{row['rtf']:.3f}", f"{row['wer']:.2f}", f"{row['first']:.2f}"]
            lines.append(f"| {' | '.join([*cells, *rounded])} |")
    host, count = result["machine"], len(result["utterances"])
    note = (
        f"{result['model']}, {count} utterances of {bench_peers.SPLIT}, {result['threads']} "
        f"threads of {host['cpu']}. Written by `python tools/write_tables.py` from the results of "
        "`python tools/bench_peers.py`."
    )
    return "\n".join([*lines, "", note])


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
        gate.verdict if gate else "baseline",
        f"{time / fp32:.2f}" if time and fp32 else "",
        f"{memory / 1e6:.0f}" if memory else "",
    ]


def summary(model: str, *onnx: str) -> measured.Measured:
    """Return what `edgewhisper recipes` shows: a model's sweep, and those of its ONNX exports.

    The later ones have other data; their rows take the place of earlier ones.
    """
    sweeps_of_all = [load(name) for name in (model, *onnx)]
    rows = {}
    for result in sweeps_of_all:
        fp32 = result.rtf("fp32")
        for recipe, row in result.measured.items():
            own = result.rtf(recipe)
            overall = row.gate.overall if row.gate else None
            if overall is None and recipe in rows:  # the baseline of each sweep
                continue
            rows[recipe] = measured.Row(
                row.weight_bytes,
                round(overall.d, 4) if overall else 0.0,
                row.gate.verdict if row.gate else "passed",
                round(own / fp32, 4) if own and fp32 else None,
            )
    first, *others = ({split: len(of) for split, of in r.utterances.items()} for r in sweeps_of_all)
    counts = ", ".join(f"{count} of {split}" for split, count in first.items())
    onnx_counts = dict.fromkeys(", ".join(map(str, each.values())) for each in others)
    data = f"{sweeps_of_all[0].dataset.name}: {counts}; onnx: {'; '.join(onnx_counts)}"
    return measured.Measured(model, data, rows)


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


def vocabulary_sizes() -> str:
    """Return how many tokens some languages keep, and the computed sizes of exports."""
    rows = json.loads((RESULTS / VOCABULARY / "sizes.json").read_text())
    columns = list(rows[0]["bytes"])
    heads = ["languages", "tokens", *(f"`{'`, '.join(name.split())}" for name in columns)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        named = ", ".join(f"`{code}`" for code in row["languages"]) or "all"
        sizes = [row["bytes"].get(name) for name in columns]
        cells = [named, f"{row['tokens']:,}", *(f"{s / 1e6:.1f}" if s else "-" for s in sizes)]
        lines.append(f"| {' | '.join(cells)} |")
    note = (
        "MB, computed. -: the recipe calibrates, on English. Written by "
        "`python tools/measure_vocabulary.py`."
    )
    return "\n".join([*lines, "", note])


def tuned() -> str:
    """Return the table of a run of `edgewhisper tune`."""
    result = TuningResult.read(RESULTS / "tune")
    if result is None:
        sys.exit(f"{RESULTS / 'tune'} holds no results of tuning")
    return to_table(result)


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


def help_texts() -> str:
    """Return what `--help` of every command prints on a terminal of 80 columns."""
    pages = [
        *_help(host_cli.group, "edgewhisper", None),
        next(_help(cli.group, "edgewhisper-runtime", None)),
    ]
    return "\n\n".join(pages)


def _help(command: click.Command, name: str, parent: click.Context | None) -> Iterator[str]:
    """Yield the help of a command, and of each below it, under a heading."""
    settings = command.context_settings
    context = click.Context(command, parent, info_name=name, terminal_width=80, **settings)
    yield f"### {context.command_path}\n\n```text\n{command.get_help(context)}\n```"
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            child = command.get_command(context, below)
            if child is not None:
                yield from _help(child, below, context)


TABLES: dict[Path, dict[str, Callable[[], str]]] = {
    ROOT / "README.md": {
        "exports": partial(results, ROUNDING[0], EXPORTS),
        "results": partial(results, MODELS[0], VARIANTS),
        "engines": engines,
    },
    ROOT / "docs" / "commands.md": {"exit codes": exit_codes, "help": help_texts},
    ROOT / "docs" / "devices.md": {"tune": tuned},
    ROOT / "docs" / "reliability.md": {
        "audio": partial(hostile, "audio"),
        "bundles": partial(hostile, "bundles"),
        "tests": hostile_tests,
    },
    ROOT / "docs" / "rounding.md": {
        **{name: partial(matrix, name) for name in ROUNDING},
        "targets": lambda: rounding_tables.targets(*map(load, ROUNDING)),
        **{f"errors {bits}": partial(rounding_tables.errors, bits) for bits in (4, 3, 2)},
        "cost": rounding_tables.cost,
        **{f"searched {name}": partial(rounding_tables.searched, name) for name in MODELS},
    },
    ROOT / "docs" / "vocabulary.md": {
        "sizes": vocabulary_sizes,
        "vocabulary": partial(matrix, VOCABULARY),
    },
    RESULTS / "noise.md": {"noise": partial(matrix, NOISE)},
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


def write_results(*, check: bool) -> None:
    """Write the figures that results hold of texts, and what ships of them; or check them."""
    for name in (*MODELS, "ablation", *ROUNDING, VOCABULARY, NOISE):
        if not check:
            reports.write_sweep(load(name), RESULTS / name)
        elif load(name) != reports.read_sweep(RESULTS / name):
            sys.exit(f"the figures of {RESULTS / name} are out of date: run {sys.argv[0]}")
    content = json.dumps(to_json(summary(MODELS[0], ROUNDING[0], VOCABULARY)), indent=1) + "\n"
    if not check:
        measured.FILE.write_text(content)
    elif content != measured.FILE.read_text():
        sys.exit(f"{measured.FILE} is out of date: run {sys.argv[0]}")


@click.command()
@click.option("--check", is_flag=True, help="Only tell whether the tables are up to date.")
def main(check: bool) -> None:
    """Write every table of the documentation, and the figures that the results hold of texts."""
    write_results(check=check)
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
