"""The fields of an utterance in manifests and tables, under the names that people give them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from edgewhisper.evaluation.formats import Entry, Problem
from edgewhisper_runtime.errors import DataError

# Names in NeMo's manifests, Common Voice, DeepSpeech, Kaldi, Hugging Face data sets. The first that
# is there counts.
NAMES: dict[str, tuple[str, ...]] = {
    "audio": (
        "audio_filepath", "audio", "audio_path", "path", "file", "file_name", "filename",
        "filepath", "wav", "wav_filename", "wav_path",
    ),
    "text": (
        "text", "sentence", "transcript", "transcription", "reference", "raw_transcription",
    ),
    "id": ("id", "utterance_id", "utt_id", "uttid", "utt"),
    "speaker": ("speaker", "speaker_id", "client_id", "spk", "spk_id"),
    "language": ("language", "lang", "locale"),
    "duration": ("duration", "duration_seconds", "seconds"),
    "offset": ("offset",),
    "split": ("split", "subset"),
}  # fmt: skip
_CLIPS = "clips"  # where Common Voice has the audio, beside its tables
_OPTIONAL = ("id", "speaker", "language")
_SECONDS = ("duration", "offset")


def columns(named: Mapping[str, str], present: Collection[str]) -> dict[str, str]:
    """Return the column of each field that the data has, among the columns that are `present`.

    `named` has columns by field; others go by their usual names, in any case. Raises DataError for
    a field that does not exist, for a named column that is not there, for two columns that a field
    goes by and that differ in their case alone, and where audio or text has no column.
    """
    if unknown := [field for field in named if field not in NAMES]:
        raise DataError(
            f"there is no field {unknown[0]!r}. Columns can be named for {', '.join(NAMES)}."
        )
    by_name: dict[str, list[str]] = {}
    for name in present:
        by_name.setdefault(name.strip().lower(), []).append(name)
    have = f"it has {', '.join(map(repr, present)) or 'none'}"
    chosen = {}
    for field, usual in NAMES.items():
        if field in named:
            if named[field] not in present:
                raise DataError(f"there is no column {named[field]!r}; {have}.")
            chosen[field] = named[field]
        elif found := next((by_name[name] for name in usual if name in by_name), None):
            if len(found) > 1:
                raise DataError(
                    f"it has the columns {' and '.join(map(repr, found))}. Name one for the "
                    f"{field} in a data card, or rename one."
                )
            chosen[field] = found[0]
    for field in ("audio", "text"):
        if field not in chosen:
            raise DataError(
                f"there is no column for the {field}, such as {' or '.join(NAMES[field])}; {have}. "
                f"Name the column of the {field} in a data card."
            )
    return chosen


def entry(
    where: str, row: Mapping[str, Any], columns: Mapping[str, str], base: Path
) -> Entry | Problem:
    """Return the entry of a row, or its problem; audio is looked for below `base`."""
    reasons: list[str] = []
    texts: dict[str, str] = {}
    numbers: dict[str, float | None] = {}
    for field in ("audio", "text", *_OPTIONAL, *_SECONDS):
        try:
            if field in _SECONDS:
                numbers[field] = _seconds(row, columns, field)
            else:
                texts[field] = text(row, columns, field)
        except ValueError as error:
            reasons.append(str(error))
    if texts.get("audio") == "":
        reasons.append(f"{columns['audio']} names no audio")
    if offset := numbers.get("offset"):
        reasons.append(
            f"begins at {offset:g} s of its recording, and only whole recordings are read: cut it "
            "into a file for each utterance"
        )
    if reasons:
        return Problem(where, ", and ".join(reasons))
    texts["id"] = texts["id"] or texts["audio"]
    audio = _path(base, texts.pop("audio"))
    return Entry(where, audio, **texts, duration=numbers["duration"])


def _path(base: Path, name: str) -> Path:
    """Return a file's path, as a row names it: relative to `base`, or to clips/ in it."""
    in_clips = base / _CLIPS / name
    with suppress(OSError):  # a name that is too long: opening it will say so
        if in_clips.is_file() and not (base / name).exists():
            return in_clips
    return base / name


def text(row: Mapping[str, Any], columns: Mapping[str, str], field: str) -> str:
    """Return the value of a field as a text, "" where there is none.

    NaN is none: pandas has it in place of a value that is missing. Raises ValueError for what is no
    text.
    """
    value = row.get(columns.get(field, ""))
    if value is None or value != value:  # noqa: PLR0124 # NaN is the value that is not itself
        return ""
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value).strip()
    raise ValueError(f"{columns[field]} is a {type(value).__name__}, not a text")


def _seconds(row: Mapping[str, Any], columns: Mapping[str, str], field: str) -> float | None:
    value = text(row, columns, field)
    if not value:
        return None
    if (number := seconds(value)) is None:
        raise ValueError(f"{columns[field]} is {value!r}, not a number of seconds")
    return number


def seconds(text: str) -> float | None:
    """Return a number of seconds; None for a text that is none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < math.inf else None
