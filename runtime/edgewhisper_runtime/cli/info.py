"""edgewhisper info."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click


@click.command("info")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="The whole manifest.")
def command(bundle: Path, as_json: bool) -> None:
    """Say what BUNDLE is and what it was measured to do, without reading its weights."""
    from edgewhisper_runtime.bundle import read_manifest

    manifest = read_manifest(bundle)
    if as_json:
        click.echo(json.dumps(asdict(manifest)))
        return
    recipe, evaluation = manifest.recipe, manifest.evaluation
    rows = [
        ("model", str(manifest.model["name"])),
        ("recipe", f"{recipe['name']}: {recipe.get('summary', '')}"),
        ("engine", manifest.backend),
        ("audio context", manifest.audio_context),
        ("weights", f"{manifest.weight_bytes / 1e6:.1f} MB"),
        ("made", f"{manifest.created}, {_libraries(manifest.libraries)}"),
        ("gate", evaluation["verdict"] if evaluation else "did not run"),
    ]
    for split, found in evaluation["comparison"].items() if evaluation else ():
        wer = evaluation["variant"][split]["wer"] if evaluation else 0.0
        rows.append((f"WER {split}", f"{wer:.2f} % ({found['d']:+.2f} against fp32)"))
    width = max(len(name) for name, _ in rows)
    click.echo("\n".join([manifest.name, *(f"  {n:<{width}}  {v}" for n, v in rows)]))


def _libraries(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
