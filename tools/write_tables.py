"""Write the tables of the documentation from stored raw results and from the code.

    python tools/write_tables.py [--check]

A table stands between `<!-- table: NAME -->` and `<!-- end -->`. Results are those of `edgewhisper
sweep`, `ablate` and `tune`, and of other tools, in docs/results/. With --check nothing is written;
the exit code is 1 if a table is out of date.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import click

import bench_peers
import rounding_tables
import sweep_tables
from edgewhisper import cli as host_cli
from edgewhisper import reports
from edgewhisper.recipes import measured
from edgewhisper.reports import markdown
from edgewhisper.reports.tuning import TuningResult, to_table
from edgewhisper_runtime import cli, errors
from edgewhisper_runtime.bundle import to_json
from edgewhisper_runtime.cli import streams
from sweep_tables import EXPORTS, MODELS, RESULTS, VARIANTS, VOCABULARIES, load

ROOT = Path(__file__).parent.parent
NOISE = "noise"


def engines() -> str:
    """Return what README.md shows of the peer benchmark: greedy decoding, one file at a time."""
    result = bench_peers.read("whisper-base")
    heads = ("engine", "RTF", "WER %", "fresh process to text, s", "peak RSS, MB", "model, MB")
    rows = []
    for name, row in bench_peers.figures(result).items():
        if row["mode"] == "greedy":
            rounded = [f"{row[key] / 1e6:.0f}" for key in ("rss", "model")]
            cells = [name, f"{row['rtf']:.3f}", f"{row['wer']:.2f}", f"{row['first']:.2f}"]
            rows.append([*cells, *rounded])
    host, count = result["machine"], len(result["utterances"])
    note = (
        f"{result['model']}, {count} utterances of {bench_peers.SPLIT}, {result['threads']} "
        f"threads of {host['cpu']}. Written by `python tools/write_tables.py` from the results of "
        "`python tools/bench_peers.py`."
    )
    return f"{markdown.table(heads, rows)}\n\n{note}"


def vocabulary_sizes() -> str:
    """Return how many tokens some languages keep, and the computed sizes of exports."""
    sizes = json.loads((RESULTS / "vocabulary" / "sizes.json").read_text())
    columns = list(sizes[0]["bytes"])
    heads = ["languages", "tokens", *(f"`{'`, '.join(name.split())}" for name in columns)]
    rows = []
    for row in sizes:
        named = ", ".join(f"`{code}`" for code in row["languages"]) or "all"
        computed = [row["bytes"].get(name) for name in columns]
        cells = [f"{size / 1e6:.1f}" if size else "-" for size in computed]
        rows.append([named, f"{row['tokens']:,}", *cells])
    note = (
        "MB, computed. -: the recipe calibrates, on English. Written by "
        "`python tools/measure_vocabulary.py`."
    )
    return f"{markdown.table(heads, rows)}\n\n{note}"


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
    return markdown.table(("exit code", "meaning"), sorted(family.items()))


def hostile(name: str) -> str:
    """Return what the inputs of a corpus ended in, by kind."""
    result = json.loads((RESULTS / "reliability" / f"{name}.json").read_text())
    heads = ("kind", "tried", "handled", "refused", "bad", "seconds", "slowest")
    rows = []
    outcomes = ("handled", "refused", "bad")
    total = dict.fromkeys((*outcomes, "seconds"), 0) | {"slowest": 0.0}
    for kind, row in [*result["kinds"].items(), ("all", total)]:
        counts = [row[outcome] for outcome in outcomes]
        seconds = (f"{row['seconds']:.0f}", f"{row['slowest']:.1f}")
        rows.append((kind, sum(counts), *counts, *seconds))
        for key in total:
            total[key] = max(total[key], row[key]) if key == "slowest" else total[key] + row[key]
    faults = (f"Bad: {bad['kind']}, {bad['name']}: {bad['outcome']}" for bad in result["bad"])
    return "\n\n".join([markdown.table(heads, rows), *faults])


def hostile_tests() -> str:
    """Return how many tests try each kind of hostile input, and the command that runs them."""
    result = json.loads((RESULTS / "reliability" / "tests.json").read_text())
    rows = ((kind, row["tests"], f"`pytest {row['path']}`") for kind, row in result.items())
    return markdown.table(("what is tried", "tests", "command"), rows)


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
        "exports": partial(sweep_tables.results, MODELS[0], EXPORTS),
        "results": partial(sweep_tables.results, MODELS[0], VARIANTS),
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
        **{f"exports {name}": partial(sweep_tables.whole_exports, name) for name in MODELS},
        "targets": lambda: rounding_tables.targets(*map(load, MODELS)),
        **{f"errors {bits}": partial(rounding_tables.errors, bits) for bits in (4, 3, 2)},
        "cost": rounding_tables.cost,
        **{f"searched {name}": partial(rounding_tables.searched, name) for name in MODELS},
    },
    ROOT / "docs" / "vocabulary.md": {
        "sizes": vocabulary_sizes,
        "vocabulary": partial(sweep_tables.part, MODELS[0], VOCABULARIES),
    },
    RESULTS / "cuda.md": {"devices": partial(sweep_tables.devices, MODELS[0], "cuda")},
    RESULTS / "noise.md": {"noise": partial(sweep_tables.matrix, NOISE)},
    RESULTS / "matrix.md": {
        "missing": sweep_tables.missing,
        "resolution": sweep_tables.resolution,
        **{
            f"{what.__name__} {name}": partial(what, name)
            for what in (sweep_tables.matrix, sweep_tables.headlines, sweep_tables.verdicts)
            for name in MODELS
        },
        "ablation": partial(sweep_tables.matrix, "ablation"),
    },
}


def write_results(*, check: bool) -> None:
    """Write the figures that results hold of texts, and what ships of them; or check them."""
    for name in (*MODELS, "ablation", "cuda", NOISE):
        if not check:
            reports.write_sweep(load(name), RESULTS / name)
        elif load(name) != reports.read_sweep(RESULTS / name):
            sys.exit(f"the figures of {RESULTS / name} are out of date: run {sys.argv[0]}")
    content = json.dumps(to_json(sweep_tables.summary(MODELS[0])), indent=1) + "\n"
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
