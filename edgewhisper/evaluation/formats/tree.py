"""The files in a directory and below it, also where directories are links."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path


def files(
    directory: Path, suffixes: Collection[str], above: tuple[Path, ...] = ()
) -> Iterator[Path]:
    """Yield the paths below a directory that end in one of `suffixes`, in order.

    `above` are the directories that it is in: a link to one of them is not followed. Raises OSError
    for a directory that cannot be read.
    """
    real = directory.resolve()
    if real in above:
        return
    for path in sorted(directory.iterdir()):
        if path.is_dir():
            yield from files(path, suffixes, (*above, real))
        elif path.suffix.lower() in suffixes:
            yield path
