"""edgewhisper models."""

from __future__ import annotations

import json
from typing import Any

import click


@click.command("models")
@click.option("--json", "as_json", is_flag=True, help="A list of objects.")
def command(as_json: bool) -> None:
    """List every model with its size, its sources, and whether it is here."""
    from edgewhisper.checkpoints.cards import all_cards
    from edgewhisper.checkpoints.store import stored

    rows: list[dict[str, Any]] = [
        {
            "name": card.name,
            "parameters": card.parameters,
            "multilingual": card.multilingual,
            "sources": [source.kind for source in card.sources],
            "local": str(stored(card)) if stored(card).is_dir() else None,
        }
        for card in all_cards()
    ]
    if as_json:
        click.echo(json.dumps(rows))
        return
    click.echo(f"{'model':<24}{'parameters':>12}  {'languages':<10}{'sources':<15}here")
    for row in rows:
        languages = "many" if row["multilingual"] else "English"
        click.echo(
            f"{row['name']:<24}{row['parameters'] / 1e6:>10.1f} M  {languages:<10}"
            f"{', '.join(row['sources']):<15}{'yes' if row['local'] else 'no'}"
        )
