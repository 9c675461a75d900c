"""Data sets for evaluation, registered by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from edgewhisper.workspace import Workspace
from edgewhisper_exporters import plugins
from edgewhisper_runtime.errors import DataError


@dataclass(frozen=True)
class Dataset:
    """A directory of speech, its name in reports, and its splits.

    `source` is the name of the registered data set that reads it. `synthetic` speech proves nothing
    about people, so no gate judges it.
    """

    name: str
    root: Path
    splits: tuple[str, ...]
    source: str = "librispeech"
    synthetic: bool = False


@dataclass(frozen=True)
class Utterance:
    """One recording with its reference text; duration in seconds. No speaker: an empty name."""

    id: str
    speaker: str
    path: Path
    reference: str
    duration: float


class DatasetSource(Protocol):
    """Finds and reads one kind of data set.

    To add one: write a module with these two functions, and register it as an entry point of the
    group "edgewhisper.datasets". `--dataset` and `find_dataset` then know it by that name.
    """

    def find(
        self, workspace: Workspace, directory: Path | None, splits: tuple[str, ...]
    ) -> Dataset:
        """Return the data in a directory, or where the workspace has it; all splits unless named.

        Raises DataError where what was asked for is not there.
        """

    def utterances(self, dataset: Dataset, split: str, limit: int | None) -> list[Utterance]:
        """Return a split's utterances in an order of their own, at most `limit` of them.

        Raises DataError where the split is empty or damaged.
        """


def find_dataset(
    workspace: Workspace,
    source: str = "librispeech",
    directory: Path | None = None,
    splits: tuple[str, ...] = (),
) -> Dataset:
    """Return a data set by its registered name, `source`.

    It is read from `directory`, or from where the workspace has it; for LibriSpeech the synthetic
    smoke set stands in where it has none. `splits` are those to evaluate on: the data set's usual
    ones unless named. Raises DataError where the data is not there.
    """
    return _source(source).find(workspace, directory, splits)


def utterances(dataset: Dataset, split: str, limit: int | None = None) -> list[Utterance]:
    """Return the utterances of a split, at most `limit` of them."""
    return _source(dataset.source).utterances(dataset, split, limit)


def _source(name: str) -> DatasetSource:
    if name not in plugins.names(plugins.DATASETS):
        registered = ", ".join(plugins.names(plugins.DATASETS))
        raise DataError(f"there is no data set {name!r}. Use one of {registered}.")
    return cast("DatasetSource", plugins.load(plugins.DATASETS, name))
