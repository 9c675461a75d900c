"""edgewhisper models."""

from __future__ import annotations

import json
from typing import Any

import click

from edgewhisper.cli import options
from edgewhisper.cli.table import aligned
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.cli.options import Sectioned


@click.command("models", cls=Sectioned, examples=("", "--json"))
@options.as_json("A list of objects.")
@options.workspace
def command(workspace: Workspace, as_json: bool) -> None:
    """List every model with its size, its sources, and whether it is here."""
    from edgewhisper.checkpoints.cards import all_cards
    from edgewhisper.checkpoints.store import stored

    rows: list[dict[str, Any]] = [
        {
            "name": card.name,
            "parameters": card.parameters,
            "multilingual": card.multilingual,
            "sources": [source.kind for source in card.sources],
            "local": str(stored(workspace, card)) if stored(workspace, card).is_dir() else None,
        }
        for card in all_cards()
    ]
    if as_json:
        click.echo(json.dumps(rows))
        return
    lines = [("model", "parameters", "languages", "sources", "here")] + [
        (
            row["name"],
            f"{row['parameters'] / 1e6:.1f} M",
            "many" if row["multilingual"] else "English",
            ", ".join(row["sources"]),
            "yes" if row["local"] else "no",
        )
        for row in rows
    ]
    click.echo(aligned(lines))
