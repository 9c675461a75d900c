"""Hugging Face data sets: on the hub, saved by `save_to_disk`, or as parquet files.

Only the library's tables are used. Audio that is inside of them is written as it is into files
beside the library's cache (HF_DATASETS_CACHE), named by their hashes, and read as any other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgewhisper.evaluation.formats import Entry, Problem, Source, fields
from edgewhisper_runtime.bundle import atomic
from edgewhisper_runtime.errors import DataError, MissingLibraryError, NetworkError

HUB = "hub:"
_CACHE = "edgewhisper-audio"
_SAVED = ("dataset_dict.json", "state.json")  # as save_to_disk leaves them


SETTINGS = frozenset({"columns", "audio", "configuration"})


def matches(path: Path) -> bool:
    """Return whether this is a data set that was saved, has parquet files, or is on the hub."""
    if str(path).startswith(HUB):
        return True
    if path.is_dir():
        return any((path / name).is_file() for name in _SAVED) or bool(_tables(path))
    return path.suffix == ".parquet" and path.is_file()


def splits(source: Source) -> tuple[str, ...]:
    """Return the names of the splits."""
    return tuple(_load(source))


def entries(source: Source, split: str) -> Iterator[Entry | Problem]:
    """Yield the entries of a split; labels of classes, such as languages, by their names."""
    import datasets

    rows = _load(source)[split]
    try:
        columns = fields.columns(source.columns, rows.column_names)
    except DataError as error:
        raise DataError(f"{source.path}: {error}") from error
    labels = {
        column: rows.features[column]
        for column in columns.values()
        if isinstance(rows.features[column], datasets.ClassLabel)
    }
    if isinstance(rows.features[columns["audio"]], datasets.Audio):
        rows = rows.cast_column(columns["audio"], datasets.Audio(decode=False))
    base = source.audio or (source.path if source.path.is_dir() else source.path.parent)
    cache = Path(datasets.config.HF_DATASETS_CACHE) / _CACHE
    for number, row in enumerate(rows.select_columns(list(columns.values()))):
        where = f"{source.path} {split}:{number + 1}"
        values = dict(row)
        for column, label in labels.items():
            if values[column] is not None:
                values[column] = label.int2str(values[column])
        values[columns["audio"]], name = _audio(values[columns["audio"]], cache)
        item = fields.entry(where, values, columns, base)
        if isinstance(item, Entry) and "id" not in columns:
            item = Entry(**vars(item) | {"id": name or f"{split}-{number}"})
        yield item


def _load(source: Source) -> Mapping[str, Any]:
    """Return the library's data set by split; raise DataError where it cannot read it."""
    if find_spec("datasets") is None:
        raise MissingLibraryError(
            f"{source.path} needs Hugging Face's datasets, which is not installed. "
            "Install it: pip install 'edgewhisper[datasets]'."
        )
    import datasets

    datasets.disable_progress_bars()
    path = source.path
    name = str(path)
    try:
        if name.startswith(HUB):
            return dict(datasets.load_dataset(name.removeprefix(HUB), source.configuration))
        if any((path / file).is_file() for file in _SAVED):
            saved = datasets.load_from_disk(name)
            if isinstance(saved, datasets.Dataset):
                return {str(saved.split or path.name): saved}
            return dict(saved)
        files = _parquet(path, source.configuration)
        return dict(datasets.load_dataset("parquet", data_files=files))
    except (ConnectionError, datasets.exceptions.DatasetNotFoundError) as error:
        raise NetworkError(
            f"{name} could not be fetched from the hub ({error}). Check its name, and the "
            "connection."
        ) from error
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        datasets.exceptions.DatasetsError,
    ) as error:
        raise DataError(
            f"{name} could not be read as a data set ({error}). Save it again, by save_to_disk or "
            "as parquet files."
        ) from error


def _tables(path: Path) -> list[Path]:
    """Return a parquet file, or those of a directory and of the directories in it."""
    below = sorted([*path.glob("*.parquet"), *path.glob("*/*.parquet")])
    return [path] if path.is_file() else below


def _parquet(path: Path, configuration: str | None) -> dict[str, list[str]]:
    """Return the parquet files by split, which is what their names begin with.

    A snapshot of a data set on the hub has a directory for each configuration. Raises DataError
    where the configuration is not there, and where a split would be of several.
    """
    tables = _tables(path)
    within = {file.parent for file in tables} - {path, path.parent}
    present = sorted(directory.name for directory in within)
    if configuration is not None:
        tables = [file for file in tables if file.parent.name == configuration]
        if not tables:
            have = ", ".join(present) or "none"
            raise DataError(f"{path} has no configuration {configuration!r}; it has {have}.")
    by_split: dict[str, list[Path]] = {}
    for file in tables:
        by_split.setdefault(file.stem.split("-")[0], []).append(file)
    for split, files in by_split.items():
        if len({file.parent for file in files}) > 1:
            raise DataError(
                f"{path} has {split} in several configurations ({', '.join(present)}). Name the "
                "directory of one, or the configuration in a data card."
            )
    return {split: [str(file) for file in files] for split, files in by_split.items()}


def _audio(value: Any, cache: Path) -> tuple[str, str]:
    """Return the path of an utterance's audio, and its name in the data; "" where it has none."""
    if not isinstance(value, dict):
        return value, value if isinstance(value, str) else ""
    name = str(value.get("path") or "")
    content = value.get("bytes")
    if content is None:
        return name, name
    path = cache / f"{hashlib.sha256(content).hexdigest()}{Path(name).suffix}"
    if not path.exists():
        atomic.write_bytes(path, content)
    return str(path.resolve()), name
