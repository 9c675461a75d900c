"""The formats of data sets: each is a reader of its own, registered by name.

A reader says what stands in the data, as `Entry`s that are not checked yet. What may be wrong with
an entry is checked in one place for all formats (`edgewhisper.evaluation.checking`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast

from edgewhisper_exporters import plugins
from edgewhisper_runtime.errors import DataError


@dataclass(frozen=True)
class Entry:
    """An utterance as the data describes it. Texts are empty where the data does not say.

    `where` is its place for messages, such as "test.csv:12". `duration` in seconds.
    """

    where: str
    audio: Path
    text: str
    id: str = ""
    speaker: str = ""
    language: str = ""
    duration: float | None = None


@dataclass(frozen=True)
class Problem:
    """Why an utterance cannot be used, and where it stands, such as "test.csv:12"."""

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclass(frozen=True)
class Source:
    """The place of a data set: a file, a directory, or "hub:OWNER/NAME" on the Hugging Face hub.

    `columns` maps fields of an utterance (audio, text, id, speaker, language, duration, offset,
    split) to the names that the data has for them; the usual names are known. `audio` is the
    directory that paths of audio are relative to, that of the manifest if None. `configuration`
    is one of a Hugging Face data set.
    """

    path: Path
    columns: Mapping[str, str] = field(default_factory=dict)
    audio: Path | None = None
    configuration: str | None = None


class DataFormat(Protocol):
    """Reads one format of data sets.

    To add one: write a module with `SETTINGS` and these three functions, and register it as an
    entry point of the group "edgewhisper.datasets". `--data`, data cards and `find_dataset` then
    know it.

    `SETTINGS` are the fields of a `Source` that it goes by, besides the path.
    """

    SETTINGS: frozenset[str]

    def matches(self, path: Path) -> bool:
        """Return whether a file or directory is of this format, by its content or shape.

        May raise DataError with the reason for what seems to be of the format and cannot be read.
        """

    def splits(self, source: Source) -> tuple[str, ...]:
        """Return the names of the splits; raise DataError for data that cannot be read at all."""

    def entries(self, source: Source, split: str) -> Iterator[Entry | Problem]:
        """Yield the utterances of a split in a fixed order, and a problem for what is none."""


def names() -> tuple[str, ...]:
    """Return the names of the formats."""
    return plugins.names(plugins.DATASETS)


def find(name: str) -> DataFormat:
    """Return a format by its name; raise DataError for an unknown one."""
    if name not in names():
        raise DataError(f"there is no data format {name!r}. Use one of {', '.join(names())}.")
    return cast("DataFormat", plugins.load(plugins.DATASETS, name))


def recognize(path: Path) -> str:
    """Return the name of the format of a file or directory.

    Raises DataError where it has none, and where it has several.
    """
    try:
        if path.is_file() and not path.stat().st_size:
            raise DataError(f"{path} is empty. Name another file.")
        if path.exists() and not path.is_file() and not path.is_dir():
            raise DataError(
                f"{path} is no regular file, and data is read more than once. Save it in a file."
            )
        found, reasons = [], []
        for name in names():
            try:
                if find(name).matches(path):
                    found.append(name)
            except DataError as error:
                reasons.append(error)
    except OSError as error:
        raise DataError(f"{path} could not be read ({error}). Check its permissions.") from error
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(
            f"{path} can be read as {' and as '.join(found)}. Name the file or directory that is "
            "meant, or the format in a data card."
        )
    if reasons:
        raise reasons[0]
    raise DataError(
        f"{path} is of no format that is read ({', '.join(names())}). See docs/data.md, or name "
        "the format in a data card."
    )
