"""edgewhisper data."""

from __future__ import annotations

import click

from edgewhisper.cli import options
from edgewhisper.workspace import Workspace


@click.group("data")
def command() -> None:
    """Get data to evaluate on."""


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
