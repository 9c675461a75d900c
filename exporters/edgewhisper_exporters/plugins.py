"""What is registered as an entry point: quantization libraries, export formats, data sets.

A distribution registers its own in its pyproject.toml, as EdgeWhisper's own are, for example:

    [project.entry-points."edgewhisper.libraries"]
    mine = "my_package:LIBRARY"
"""

from __future__ import annotations

import sys
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from edgewhisper_runtime.errors import EdgeWhisperError

LIBRARIES = "edgewhisper.libraries"
EXPORTS = "edgewhisper.exports"
DATASETS = "edgewhisper.datasets"


def names(group: str) -> tuple[str, ...]:
    """Return the names that are registered in a group, in alphabetical order."""
    return tuple(sorted(_registered(group, tuple(sys.path))))


def load(group: str, name: str) -> Any:
    """Return what is registered by a name; raise EdgeWhisperError where nothing is."""
    registered = _registered(group, tuple(sys.path))
    if name not in registered:
        raise EdgeWhisperError(
            f"nothing is registered as {name!r} in {group}. Known here: {', '.join(names(group))}."
        )
    return registered[name].load()


@lru_cache
def _registered(group: str, _path: tuple[str, ...]) -> dict[str, EntryPoint]:
    """Read the metadata of all installed distributions, once for each search path."""
    return {point.name: point for point in entry_points(group=group)}
