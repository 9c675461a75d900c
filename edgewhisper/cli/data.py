"""edgewhisper data."""

from __future__ import annotations

import click


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
def librispeech(splits: tuple[str, ...], server: str | None) -> None:
    """Download LibriSpeech splits: resumed after a break, verified, then unpacked."""
    from edgewhisper.evaluation import download

    for split in splits:
        click.echo(download.fetch_split(split, server or download.SERVER))
