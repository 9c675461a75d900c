"""edgewhisper bundles."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from edgewhisper.cli import options
from edgewhisper.cli.table import aligned
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.cli.options import Sectioned

if TYPE_CHECKING:
    from edgewhisper_runtime.bundle import Manifest


@click.command("bundles", cls=Sectioned, examples=("", "--json"))
@options.as_json("A list of objects, with their paths.")
@options.workspace
def command(workspace: Workspace, as_json: bool) -> None:
    """List the bundles that were built here; other commands take them by these names."""
    from edgewhisper_runtime.bundle import MANIFEST, read_manifest

    latest = workspace.latest_bundle()
    manifests = {
        file.parent: read_manifest(file.parent)
        for file in sorted(workspace.bundles.glob(f"*/{MANIFEST}"))
    }
    if as_json:
        bundles = [
            {"path": str(path), "latest": path == latest, **_summary(manifest)}
            for path, manifest in manifests.items()
        ]
        click.echo(json.dumps(bundles))
        return
    if not manifests:
        click.echo("no bundle was built here. Build one: edgewhisper build", err=True)
        return
    rows = [("bundle", "MB", "gate", "made")]
    for path, manifest in manifests.items():
        facts = _summary(manifest)
        mark = " *" if path == latest else ""
        size = f"{manifest.weight_bytes / 1e6:.0f}"
        rows.append((path.name + mark, size, str(facts["gate"]), manifest.created[:10]))
    click.echo(aligned(rows))
    click.echo("\n* built last: `edgewhisper transcribe` runs it.")


def _summary(manifest: Manifest) -> dict[str, str | int]:
    return {
        "name": manifest.name,
        "model": manifest.model.name,
        "recipe": manifest.recipe.name,
        "weight_bytes": manifest.weight_bytes,
        "gate": manifest.evaluation.verdict if manifest.evaluation else "did not run",
        "created": manifest.created,
    }
