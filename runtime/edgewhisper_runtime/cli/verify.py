"""edgewhisper verify."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgewhisper_runtime.cli import options
from edgewhisper_runtime.cli.values import Bundle
from edgewhisper_runtime.errors import amount


@click.command("verify", cls=options.Sectioned, examples=("bundle/",))
@click.argument("bundle", type=Bundle())
@options.option("Output", "--json", "as_json", is_flag=True, help="The whole manifest.")
def command(bundle: Path, as_json: bool) -> None:
    """Check every file of BUNDLE against its manifest."""
    from edgewhisper_runtime.bundle import to_json
    from edgewhisper_runtime.loading import verify

    manifest = verify(bundle)
    if as_json:
        click.echo(json.dumps(to_json(manifest)))
        return
    total = sum(file.bytes for file in manifest.files.values())
    verdict = manifest.evaluation.verdict if manifest.evaluation else "did not run"
    click.echo(
        f"{manifest.name}: {amount(len(manifest.files), 'file')} intact, {total / 1e6:.1f} MB"
    )
    click.echo(f"gate: {verdict}")
