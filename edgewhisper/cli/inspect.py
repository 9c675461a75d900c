"""edgewhisper inspect."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgewhisper.cli.table import aligned
from edgewhisper_runtime.cli import options
from edgewhisper_runtime.cli.values import Bundle


@click.command("inspect", cls=options.Sectioned, examples=("bundle/",))
@click.argument("bundle", type=Bundle())
@options.option("Output", "--json", "as_json", is_flag=True, help="The census on stdout as JSON.")
def command(bundle: Path, as_json: bool) -> None:
    """Load BUNDLE and count what it really holds: dtype, granularity and bytes by part.

    Ends with an error when that is not what its recipe says.
    """
    from edgewhisper import export
    from edgewhisper.quantizers import census
    from edgewhisper.recipes import Recipe
    from edgewhisper_exporters.eligibility import find
    from edgewhisper_runtime.bundle import to_json, verify

    manifest = verify(bundle)
    recipe = Recipe.from_record(manifest.recipe, bundle)
    rows = export.take_census(bundle, manifest)
    if as_json:
        click.echo(json.dumps(to_json(rows)))
    else:
        heads = ("part", "module", "count", "quantized", "dtype", "granularity", "MB")
        lines = [
            (
                row.part,
                row.module,
                str(row.count),
                "yes" if row.quantized else "no",
                row.dtype,
                row.granularity,
                f"{row.bytes / 1e6:.2f}",
            )
            for row in rows
        ]
        click.echo(aligned([heads, *lines]))
        click.echo(f"{manifest.name}: {census.summarize(rows)}")
    cast = manifest.export is not None and find(manifest.export.format).tensors_are_cast
    if recipe.quantizes or not cast:
        census.check_scope(rows, recipe)
