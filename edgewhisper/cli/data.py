"""edgewhisper data."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import click

from edgewhisper.cli import options
from edgewhisper.cli.table import aligned
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.cli.options import Group, Sectioned, option


@click.group("data", cls=Group, examples=("list", "check calls.csv --language de", "librispeech"))
def command() -> None:
    """Get, list and check data to evaluate on."""


@command.command("list", cls=Sectioned, examples=("", "--json"))
@options.as_json("A list of objects.")
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
            "normalizer": card.normalizer,
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


@command.command(
    "check", cls=Sectioned, examples=("calls.csv --language de", "factory --split test --json")
)
@click.argument("data", metavar="DATA")
@options.splits
@options.language
@options.as_json("What can be used, and all problems.")
@options.workspace
def check(
    workspace: Workspace, data: str, splits: tuple[str, ...], language: str | None, as_json: bool
) -> None:
    """Check DATA, a path or the name of a data card, as `evaluate` does before its work.

    Prints what can be used, and each problem with its place. Ends with an error where there is a
    problem.
    """
    from edgewhisper.cli.terminal import Bars
    from edgewhisper.evaluation import cards, datasets
    from edgewhisper_runtime.errors import DataError, amount, printable

    card = cards.find(workspace, data)
    card = replace(card, language=language or card.language)
    utterances, problems = datasets.read(card, splits, Bars())
    languages = {split: sorted({u.language for u in of}) for split, of in utterances.items()}
    speakers = {split: len({u.speaker for u in of} - {""}) for split, of in utterances.items()}
    unknown = {split: sum(not u.speaker for u in of) for split, of in utterances.items()}
    hours = {split: sum(u.duration for u in of) / 3600 for split, of in utterances.items()}
    if as_json:
        splits_found = {
            split: {
                "utterances": len(of_split),
                "hours": hours[split],
                "speakers": speakers[split],
                "without_speaker": unknown[split],
                "languages": languages[split],
            }
            for split, of_split in utterances.items()
        }
        content = {"name": card.name, "format": card.format, "splits": splits_found}
        click.echo(json.dumps(content | {"problems": [vars(problem) for problem in problems]}))
    else:
        rows = [
            (split, str(len(of_split)), f"{hours[split]:.2f}",
             _speakers(speakers[split], unknown[split]), ", ".join(languages[split]))
            for split, of_split in utterances.items()
        ]  # fmt: skip
        click.echo(f"{card.name}, read as {card.format}")
        click.echo(aligned([("split", "utterances", "hours", "speakers", "languages"), *rows]))
        for problem in problems:
            click.echo(printable(str(problem)))
    if problems:
        raise DataError(
            f"{card.path} has {amount(len(problems), 'problem')}, shown above. Mend them, or "
            "evaluate with --skip-bad, which leaves such utterances out."
        )


def _speakers(known: int, unknown: int) -> str:
    """Return how many speakers are known, and how many utterances name none."""
    if not known:
        return "unknown"
    return f"{known}, {unknown} without" if unknown else str(known)


@command.command("librispeech", cls=Sectioned, examples=("", "--split dev-clean"))
@option(
    "Data",
    "--split",
    "splits",
    multiple=True,
    default=("test-clean", "test-other"),
    show_default=True,
    type=click.Choice(["dev-clean", "dev-other", "test-clean", "test-other"]),
    metavar="SPLIT",
    help="dev-clean, dev-other, test-clean or test-other (repeatable).",
)
@option("Data", "--server", metavar="URL", help="A mirror of openslr.org's resources/12.")
@options.workspace
def librispeech(workspace: Workspace, splits: tuple[str, ...], server: str | None) -> None:
    """Download LibriSpeech splits: resumed after a break, verified, then unpacked."""
    from edgewhisper.cli.terminal import Bars
    from edgewhisper.evaluation import download

    for split in splits:
        bars = Bars(unit="B")
        click.echo(download.fetch_split(workspace, split, server or download.SERVER, progress=bars))
