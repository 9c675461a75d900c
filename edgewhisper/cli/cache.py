"""edgewhisper cache."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgewhisper.cli import options
from edgewhisper.cli.table import aligned
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.bundle import to_json
from edgewhisper_runtime.cli.options import Group, Sectioned, option

if TYPE_CHECKING:
    from edgewhisper.cache import Entry, Kind

_KINDS = ("checkpoint", "variant", "export", "evaluation", "download", "leftover")


@click.group(
    "cache",
    cls=Group,
    examples=("", "prune --older-than 30", "prune --dry-run"),
    invoke_without_command=True,
)
@options.as_json("A list of objects.")
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """Show what is kept besides bundles and reports, with sizes and ages; `cache prune` deletes."""
    if context.invoked_subcommand is not None:
        return
    from edgewhisper.cache import entries

    workspace = Workspace.from_environment()
    every = entries(workspace)
    if as_json:
        click.echo(json.dumps([_to_json(entry) for entry in every]))
        return
    click.echo(_table(workspace.root, every))


@command.command(
    "prune",
    cls=Sectioned,
    examples=("--dry-run", "--older-than 30", "--kind evaluation --kind checkpoint"),
)
@option(
    "What",
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(_KINDS),
    metavar="KIND",
    help="Kind of what to delete (repeatable): checkpoint, variant, export, evaluation, download "
    "or leftover; what can be made again by default: variant, export, download and leftover.",
)
@option(
    "What",
    "--older-than",
    "days",
    default=0.0,
    show_default=True,
    metavar="DAYS",
    help="Only what is so many days old.",
)
@option("What", "--dry-run", is_flag=True, help="Tell what would be deleted.")
@options.workspace
def prune(workspace: Workspace, kinds: tuple[Kind, ...], days: float, dry_run: bool) -> None:
    """Delete what is kept, never bundles or reports.

    What a process works on is left too.
    """
    from edgewhisper import cache

    deleted = []
    for entry, done in cache.prune(workspace, kinds or cache.REPRODUCIBLE, days, dry_run=dry_run):
        if done:
            deleted.append(entry)
        else:
            click.echo(f"in use, left: {entry.path}", err=True)
    verb = "would be deleted" if dry_run else "deleted"
    click.echo(_table(workspace.root, deleted, verb))


def _to_json(entry: Entry) -> dict[str, object]:
    return to_json(entry) | {"path": str(entry.path)}


def _table(root: Path, every: Sequence[Entry], verb: str = "in all") -> str:
    rows = [("kind", "name", "MB", "days")]
    rows += [
        (
            entry.kind,
            str(entry.path.relative_to(root)),
            f"{entry.bytes / 1e6:.1f}",
            f"{entry.days:.0f}",
        )
        for entry in every
    ]
    total = sum(entry.bytes for entry in every)
    return f"{aligned(rows)}\n\n{total / 1e6:.1f} MB {verb}, in {root}"
