"""Write the tables of README.md from stored raw results and from the code.

    python tools/write_tables.py [--check]

A table stands between `<!-- table: NAME -->` and `<!-- end -->`. Results are those of
`edgewhisper build --json` (NAME.json) and `edgewhisper profile --json` (NAME.profile.json) in
docs/results/. With --check nothing is written; the exit code is 1 if a table is out of date.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edgewhisper_runtime import cli, errors

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
README = ROOT / "README.md"


def load(name: str) -> dict[str, Any]:
    """Return a stored result."""
    return dict(json.loads((RESULTS / f"{name}.json").read_text()))


def results() -> str:
    """WER, size, speed and memory of each stored build, its baseline first."""
    lines: list[str] = []
    footer = ""
    for path in sorted(RESULTS.glob("*.profile.json")):
        name = path.name.removesuffix(".profile.json")
        if not (RESULTS / f"{name}.json").exists():
            continue
        report = load(name)
        splits = list(report["summary"])
        roles = ("variant",) if lines else ("baseline", "variant")
        if not lines:
            measured = report["machine"]
            heads = [f"WER % {split}" for split in splits]
            lines = [
                f"| | weights | {' | '.join(heads)} | gate | RTF | peak RSS |",
                "|---|---|" + "---|" * (len(splits) + 3),
            ]
            footer = (
                f"\n{measured['cpu']} ({', '.join(measured['isa'])}), "
                f"{load(f'{name}.profile')['threads']} threads; "
                + ", ".join(
                    f"{s['variant']['utterances']} utterances of {split}"
                    for split, s in report["summary"].items()
                )
                + ". In brackets: the difference from fp32 in points with its 95 % interval. "
                + "RTF and memory: `edgewhisper profile` on the smoke set's short clips, which "
                "Whisper pads to 30 s."
            )
        for role in roles:
            bundle = report["bundles"][role]
            profile = load(f"{bundle['name']}.profile")["summary"]
            cells = [_wer(report["summary"][split], role) for split in splits]
            smaller = 1 - bundle["weight_bytes"] / report["bundles"]["baseline"]["weight_bytes"]
            size = f"{bundle['weight_bytes'] / 1e6:.1f} MB"
            size += f" (-{100 * smaller:.1f} %)" if role == "variant" else ""
            gate = report["gate"]["verdict"] if role == "variant" else "baseline"
            lines.append(
                f"| {bundle['name']} | {size} | {' | '.join(cells)} | {gate} | "
                f"{profile['rtf']:.3f} | {profile['peak_rss_bytes'] / 1e6:.0f} MB |"
            )
    return "\n".join([*lines, footer])


def _wer(split: dict[str, Any], role: str) -> str:
    text = f"{split[role]['wer']:.2f}"
    if role == "variant":
        found = split["comparison"]
        low, high = found["interval"]["low"], found["interval"]["high"]
        text += f" ({found['d']:+.2f}: {low:+.2f} to {high:+.2f})"
    return text


def exit_codes() -> str:
    """Every exit code and what it means, from the error classes."""
    classes: list[type[errors.EdgeWhisperError]] = [errors.EdgeWhisperError]
    classes += errors.EdgeWhisperError.__subclasses__()
    family = {error.exit_code: (error.__doc__ or "").strip() for error in classes}
    family |= {
        0: "Success.",
        2: "Wrong command line.",
        cli.INTERNAL_ERROR: "A defect in EdgeWhisper; `--debug` shows where.",
        cli.INTERRUPTED: "Interrupted; what was finished is kept.",
    }
    rows = [f"| {code} | {meaning} |" for code, meaning in sorted(family.items())]
    return "\n".join(["| exit code | meaning |", "|---|---|", *rows])


TABLES: dict[str, Callable[[], str]] = {"results": results, "exit codes": exit_codes}


@click.command()
@click.option("--check", is_flag=True, help="Only tell whether the tables are up to date.")
def main(check: bool) -> None:
    """Write every table of README.md."""
    text = README.read_text()
    for name, table in TABLES.items():
        pattern = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not pattern.search(text):
            sys.exit(f"{README} has no place for the table {name!r}")
        content = table()
        text = pattern.sub(lambda match, new=content: f"{match[1]}{new}\n{match[2]}", text)  # type: ignore[misc] # the default binds the loop's value
    if not check:
        README.write_text(text)
    elif text != README.read_text():
        sys.exit("the tables are out of date: run python tools/write_tables.py")


if __name__ == "__main__":
    main()
