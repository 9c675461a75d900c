"""What a workspace keeps besides bundles and reports: sizes, ages, and what may be deleted."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from edgewhisper import staging
from edgewhisper.workspace import Workspace

Kind = Literal["checkpoint", "variant", "export", "evaluation", "download", "leftover"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# What EdgeWhisper makes again by itself from checkpoints, in minutes.
REPRODUCIBLE: tuple[Kind, ...] = ("variant", "export", "download", "leftover")
_DAY = 24 * 3600


@dataclass(frozen=True)
class Entry:
    """A file or directory of the workspace: its kind, its size in bytes, its age in days."""

    kind: Kind
    path: Path
    bytes: int
    days: float


def entries(workspace: Workspace) -> list[Entry]:
    """Return all that is kept and may be deleted, in the order of `KINDS`, each by its name.

    Bundles, reports, sweeps, ablations and speech are no entries: they are results, or evidence.
    """
    directories: list[tuple[Kind, Path]] = [
        ("checkpoint", workspace.checkpoints),
        ("variant", workspace.variants),
        ("evaluation", workspace.evaluations),
        ("download", workspace.downloads),
        *(("export", formats) for formats in _listed(workspace.exports)),
    ]
    found = [
        _entry(kind, path)
        for kind, directory in directories
        for path in _listed(directory)
        if not staging.is_unfinished(path)
    ]
    places = (workspace.checkpoints, workspace.variants, workspace.evaluations, workspace.downloads,
              workspace.bundles, *_listed(workspace.exports))  # fmt: skip
    found += [
        _entry("leftover", path)
        for place in places
        for path in _listed(place)
        if staging.is_unfinished(path)
    ]
    return sorted(found, key=lambda entry: (KINDS.index(entry.kind), entry.path))


def prune(
    workspace: Workspace, kinds: Sequence[Kind], days: float = 0.0, *, dry_run: bool = False
) -> Iterator[tuple[Entry, bool]]:
    """Delete entries of some kinds that are at least so many days old.

    Yields each with True, or with False where it was left because a process works on it. With
    `dry_run` nothing is deleted, and every entry is True.
    """
    for entry in entries(workspace):
        if entry.kind in kinds and entry.days >= days:
            yield entry, dry_run or staging.remove(entry.path)


def _entry(kind: Kind, path: Path) -> Entry:
    states = [state for file in (path, *path.rglob("*")) for state in _state(file)]
    files = [state for state in states if stat.S_ISREG(state.st_mode)]
    newest = max((state.st_mtime for state in files or states), default=time.time())
    size = sum(state.st_size for state in files)
    return Entry(kind, path, size, max(0.0, (time.time() - newest) / _DAY))


def _state(path: Path) -> list[os.stat_result]:
    """Return the state of a path; nothing where another process has removed it meanwhile."""
    with suppress(FileNotFoundError):
        return [path.lstat()]
    return []


def _listed(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []
