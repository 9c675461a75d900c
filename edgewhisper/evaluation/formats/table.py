"""CSV and TSV with a header, such as Common Voice's: a row for each utterance.

The delimiter is the one of comma, semicolon and tab that the header has most of. Values may stand
in double quotes (RFC 4180), except between tabs, where quotes are part of the text.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgewhisper.evaluation.formats import Problem, lines
from edgewhisper.evaluation.formats.manifests import Manifest, Row
from edgewhisper_runtime.errors import DataError

_DELIMITERS = ",;\t"
_SUFFIXES = (".csv", ".tsv")

csv.field_size_limit(lines.LONGEST)  # the limit of csv's own is below that of a line


def _first(path: Path) -> tuple[str, ...]:
    header = lines.first(path)
    try:
        return tuple(name.strip() for name in next(csv.reader([header], **_dialect(header)), ()))
    except csv.Error as error:
        raise DataError(f"its header is not CSV ({error}).") from error


def _dialect(header: str) -> dict[str, Any]:
    """Return how csv is to read the lines that follow a header."""
    delimiter = max(_DELIMITERS, key=header.count)
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    return {"delimiter": delimiter, "quoting": quoting, "strict": True}


class _Lines(Iterator[str]):
    """The lines of a table as csv reads them; it may take several for a row.

    `taken` are those of a row, `problems` those of lines that are left out.
    """

    def __init__(self, path: Path) -> None:
        self._lines = lines.read(path)
        self._again: deque[tuple[int, str]] = deque()
        self.taken: list[tuple[int, str]] = []
        self.problems: list[Problem] = []

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        while isinstance(line, Problem):
            self.problems.append(line)
            line = next(self._lines)
        self.taken.append(line)
        return line[1] + "\n"

    def give_back(self) -> None:
        """Let all lines of the row but the first be read again."""
        self._again.extendleft(reversed(self.taken[1:]))


def _rows(path: Path) -> Iterator[Row | Problem]:
    header = lines.first(path)
    given = _Lines(path)
    reader = csv.reader(given, **_dialect(header))
    columns: list[str] | None = None
    while True:
        given.taken = []
        row: list[str] | None = None
        try:
            row = next(reader)
        except StopIteration:
            yield from given.problems
            return
        except csv.Error as error:
            # a quote that is not closed takes the rows that follow into its value
            given.give_back()
            number = given.taken[0][0]
            given.problems.append(Problem(f"{path}:{number}", f"is not CSV ({error})"))
        if columns is None and given.problems:
            raise DataError(
                f"{given.problems[0]}. It is the header, without which no row can be read: mend it."
            )
        yield from given.problems
        given.problems.clear()
        if row is None:
            continue
        first, last = given.taken[0][0], given.taken[-1][0]
        where = str(first) if first == last else f"{first} to {last}"
        if columns is None:
            columns = _header(path, row)
        elif len(row) != len(columns):
            yield Problem(
                f"{path}:{where}",
                f"has {len(row)} values, and the header has {len(columns)}: a value with a "
                "delimiter in it must stand in quotes",
            )
        else:
            yield where, dict(zip(columns, row, strict=True))


def _header(path: Path, row: list[str]) -> list[str]:
    columns = [name.strip() for name in row]
    if twice := [name for name in columns if name and columns.count(name) > 1]:
        raise DataError(f"{path} has two columns {twice[0]!r}. Rename one.")
    return columns


_TABLE = Manifest(_first, _rows, _SUFFIXES, header=True)
SETTINGS = _TABLE.SETTINGS
matches, splits, entries = _TABLE.matches, _TABLE.splits, _TABLE.entries
