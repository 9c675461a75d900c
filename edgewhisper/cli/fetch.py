"""edgewhisper fetch."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgewhisper.cli import options
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.cli.options import Sectioned, option


@click.command(
    "fetch",
    cls=Sectioned,
    examples=("whisper-base", "openai/whisper-small", "whisper-small --from downloads/small/"),
)
@click.argument("model")
@option(
    "Source",
    "--from",
    "directory",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Take it from this directory: a Hugging Face checkpoint, or CTranslate2 float16 files.",
)
@options.as_json("Path, provenance and hashes.")
@options.workspace
def command(workspace: Workspace, model: str, directory: Path | None, as_json: bool) -> None:
    """Get MODEL's checkpoint from its card's sources, verified, and print where it is."""
    from edgewhisper.checkpoints.cards import find_card
    from edgewhisper.checkpoints.store import fetch

    checkpoint = fetch(workspace, find_card(model), directory)
    if as_json:
        record = {"path": str(checkpoint.path), "source": checkpoint.provenance}
        click.echo(json.dumps({**record, "weights": checkpoint.weights}))
    else:
        click.echo(checkpoint.path)
