"""What NeMo's manifests and tables have in common: rows in files, with a column for each field.

A directory of such files has a split in each. In one file, a column may name the split; where none
does, the file is one split, named after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from edgewhisper.evaluation.formats import Entry, Problem, Source, fields
from edgewhisper_runtime.errors import DataError

Row = tuple[int | str, Mapping[str, Any]]  # its line, or lines, and its values by column


@dataclass(frozen=True)
class Manifest:
    """A format of files with rows, as a `DataFormat`.

    `fits` tells whether a file has such rows, with the columns that are named; `rows` reads it.
    In a directory only files with one of `suffixes` are looked at, and those that do not fit are
    something else. With a `header` all rows of a file have the same columns; where no file fits,
    those with one of `suffixes` are taken, for an error that names their columns.
    """

    fits: Callable[[Path, Mapping[str, str]], bool]
    rows: Callable[[Path], Iterator[Row | Problem]]
    suffixes: tuple[str, ...]
    header: bool

    def matches(self, path: Path) -> bool:
        """Return whether a file, or a file of a directory, is of this format."""
        return bool(self._files(path, {}))

    def splits(self, source: Source) -> tuple[str, ...]:
        """Return the names of the splits: of the files, or those that the rows of a file name."""
        if source.path.is_dir():
            files = self._files(source.path, source.columns)
            for one, other in pairwise(sorted(files, key=lambda file: file.stem)):
                if one.stem == other.stem:
                    raise DataError(
                        f"{source.path} has {one.name} and {other.name}, which are one split by "
                        "their names. Name one of them with --data, or rename one."
                    )
            return tuple(file.stem for file in files)
        names = dict.fromkeys(split for split, _ in self._items(source, source.path) if split)
        return tuple(names) or (source.path.stem,)

    def entries(self, source: Source, split: str) -> Iterator[Entry | Problem]:
        """Yield the entries of a split; a row that cannot be read may be of any split."""
        if source.path.is_dir():
            files = self._files(source.path, source.columns)
            (file,) = (file for file in files if file.stem == split)
            yield from (item for _, item in self._items(source, file))
        else:
            items = self._items(source, source.path)
            yield from (item for name, item in items if name in {split, None})

    def _files(self, path: Path, columns: Mapping[str, str]) -> list[Path]:
        within = sorted(path.iterdir()) if path.is_dir() else [path]
        files = [file for file in within if file.is_file()]
        named = [file for file in files if file.suffix.lower() in self.suffixes]
        candidates = named if path.is_dir() else files
        fitting = [file for file in candidates if self.fits(file, columns)]
        return fitting or (named if self.header else [])

    def _items(self, source: Source, path: Path) -> Iterator[tuple[str | None, Entry | Problem]]:
        """Yield each row of a file with its split; None for a row that cannot be read."""
        known: dict[tuple[str, ...], dict[str, str]] = {}
        for row in self.rows(path):
            if isinstance(row, Problem):
                yield None, row
                continue
            number, values = row
            where, present = f"{path}:{number}", tuple(values)
            try:
                if present not in known:
                    known[present] = fields.columns(source.columns, present)
            except DataError as error:
                if self.header:
                    raise DataError(f"{path}: {error}") from error
                yield None, Problem(where, str(error).rstrip("."))
                continue
            columns = known[present]
            split = str(values.get(columns.get("split", "")) or "").strip() or path.stem
            yield split, fields.entry(where, values, columns, source.audio or path.parent)
