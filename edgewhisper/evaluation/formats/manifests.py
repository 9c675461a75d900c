"""What NeMo's manifests and tables have in common: rows in files, with a column for each field.

A directory of such files has a split in each. In one file, a column may name the split; where none
does, the file is one split, named after it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

from edgewhisper.evaluation.formats import Entry, Problem, Source, fields, splits
from edgewhisper_runtime.errors import DataError

Row = tuple[int | str, Mapping[str, Any]]  # its line, or lines, and its values by column
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Manifest:
    """A format of files with rows, as a `DataFormat`.

    `first` returns the columns of a file's first row; it raises DataError for a file without rows.
    `rows` reads a file. In a directory only files with one of `suffixes` are looked at. With a
    `header` all rows of a file have the same columns.
    """

    first: Callable[[Path], tuple[str, ...]]
    rows: Callable[[Path], Iterator[Row | Problem]]
    suffixes: tuple[str, ...]
    header: bool
    SETTINGS: ClassVar = frozenset({"columns", "audio"})

    def matches(self, path: Path) -> bool:
        """Return whether a file, or a file of a directory, is of this format.

        Raises DataError with the reason where the names of files say so, and none can be read.
        """
        if path.is_dir():
            fitting, others = self._files(path, {})
            if others and not fitting:
                raise others[min(others)]
            return bool(fitting)
        if not path.is_file():
            return False
        reason = self._misfit(path, {})
        return reason is None or path.suffix.lower() in self.suffixes

    def splits(self, source: Source) -> tuple[str, ...]:
        """Return the names of the splits: of the files, or those that the rows of a file name.

        In a directory, a file that is no manifest is left out with a warning. Raises DataError for
        one that is a split by its name, and for two that are one split.
        """
        if not source.path.is_dir():
            names = dict.fromkeys(split for split, _ in self._items(source, source.path) if split)
            return tuple(names) or (source.path.stem,)
        fitting, others = self._files(source.path, source.columns)
        for file, reason in others.items():
            if splits.is_usual(file.stem) or not fitting:
                raise reason
            _log.warning("left out of the data: %s", reason)
        for one, other in pairwise(sorted(fitting, key=lambda file: file.stem)):
            if one.stem == other.stem:
                raise DataError(
                    f"{source.path} has {one.name} and {other.name}, which are one split by "
                    "their names. Name one of them with --data, or rename one."
                )
        return tuple(file.stem for file in fitting)

    def entries(self, source: Source, split: str) -> Iterator[Entry | Problem]:
        """Yield the entries of a split; a row that cannot be read may be of any split."""
        if source.path.is_dir():
            fitting, _ = self._files(source.path, source.columns)
            (file,) = (file for file in fitting if file.stem == split)
            yield from (item for _, item in self._items(source, file))
        else:
            items = self._items(source, source.path)
            yield from (item for name, item in items if name in {split, None})

    def _files(
        self, directory: Path, columns: Mapping[str, str]
    ) -> tuple[list[Path], dict[Path, DataError]]:
        """Return the manifests of a directory, and why other files of such a name are none."""
        fitting, others = [], {}
        for file in sorted(directory.iterdir()):
            if file.is_file() and file.suffix.lower() in self.suffixes:
                reason = self._misfit(file, columns)
                if reason is None:
                    fitting.append(file)
                else:
                    others[file] = reason
        return fitting, others

    def _misfit(self, file: Path, columns: Mapping[str, str]) -> DataError | None:
        """Return why a file has no rows with audio and text; None if its first one has them."""
        try:
            fields.columns(columns, self.first(file))
        except DataError as error:
            return DataError(f"{file}: {error}")
        return None

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
                columns = known[present]
                split = fields.text(values, columns, "split") or path.stem
            except DataError as error:
                if self.header:
                    raise DataError(f"{path}: {error}") from error
                yield None, Problem(where, str(error).rstrip("."))
            except ValueError as error:
                yield None, Problem(where, str(error))
            else:
                yield split, fields.entry(where, values, columns, source.audio or path.parent)
