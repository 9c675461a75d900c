"""edgewhisper data."""

from __future__ import annotations

import json
from typing import Any

import click

from edgewhisper.cli import options
from edgewhisper.cli.table import aligned
from edgewhisper.workspace import Workspace


@click.group("data")
def command() -> None:
    """Get, list and check data to evaluate on."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="A list of objects.")
@options.workspace
def list_cards(workspace: Workspace, as_json: bool) -> None:
    """List the data cards of the workspace, and the LibriSpeech that is here."""
    from edgewhisper.evaluation import cards, librispeech

    root = librispeech.root_of(workspace)
    known = [*([] if root is None else [librispeech.card(root)]), *cards.all_cards(workspace)]
    rows: list[dict[str, Any]] = [
        {
            "name": card.name,
            "format": card.format or None,
            "language": card.language,
            "licence": card.licence,
            "path": card.path,
        }
        for card in known
    ]
    if as_json:
        click.echo(json.dumps(rows))
    elif rows:
        heads = ("name", "format", "language", "licence", "path")
        click.echo(aligned([heads, *(tuple(row[head] or "" for head in heads) for row in rows)]))
    else:
        click.echo(f"no data is here. Put data cards into {workspace.data}, see docs/data.md.")


@command.command("check")
@click.argument("data", metavar="DATA")
@click.option("--split", "splits", multiple=True, help="Split (repeatable); the usual by default.")
@click.option("--language", default="", help="Language of utterances that name none.")
@click.option("--json", "as_json", is_flag=True, help="What was found, all problems included.")
@options.workspace
def check(
    workspace: Workspace, data: str, splits: tuple[str, ...], language: str, as_json: bool
) -> None:
    """Check DATA, a path or the name of a data card, as `evaluate` does before its work.

    Prints what can be used, and each problem with its place. Ends with an error where there is a
    problem.
    """
    from edgewhisper.cli.terminal import Bars
    from edgewhisper.evaluation import cards, datasets
    from edgewhisper_runtime.errors import DataError, printable
    from edgewhisper_runtime.text.languages import to_code

    card = cards.find(workspace, data)
    utterances, problems = datasets.read(card, splits, to_code(language), Bars())
    rows = [
        {
            "split": split,
            "utterances": len(of_split),
            "hours": sum(utterance.duration for utterance in of_split) / 3600,
            "speakers": len({utterance.speaker for utterance in of_split if utterance.speaker}),
            "languages": sorted({utterance.language for utterance in of_split}),
        }
        for split, of_split in utterances.items()
    ]
    if as_json:
        content = {"name": card.name, "format": card.format, "splits": rows}
        click.echo(json.dumps(content | {"problems": [vars(problem) for problem in problems]}))
    else:
        heads = ("split", "utterances", "hours", "speakers", "languages")
        lines = [
            (r["split"], str(r["utterances"]), f"{r['hours']:.2f}", str(r["speakers"] or "unknown"),
             ", ".join(r["languages"]))
            for r in rows
        ]  # fmt: skip
        click.echo(f"{card.name}, read as {card.format}")
        click.echo(aligned([heads, *lines]))
        for problem in problems:
            click.echo(printable(str(problem)))
    if problems:
        raise DataError(
            f"{card.path} has {len(problems)} problems, shown above. Mend them, or leave such "
            "utterances out with --skip-bad."
        )


@command.command("librispeech")
@click.option(
    "--split",
    "splits",
    multiple=True,
    default=("test-clean", "test-other"),
    show_default=True,
    type=click.Choice(["dev-clean", "dev-other", "test-clean", "test-other"]),
)
@click.option("--server", help="A mirror of openslr.org's resources/12.")
@options.workspace
def librispeech(workspace: Workspace, splits: tuple[str, ...], server: str | None) -> None:
    """Download LibriSpeech splits: resumed after a break, verified, then unpacked."""
    from edgewhisper.cli.terminal import Bars
    from edgewhisper.evaluation import download

    for split in splits:
        bars = Bars(unit="B")
        click.echo(download.fetch_split(workspace, split, server or download.SERVER, progress=bars))
