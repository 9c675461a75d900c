"""Transcripts read from what other engines and tools write, for scoring by the same rules.

Three kinds of files: JSON lines, as NeMo and the Open ASR leaderboard have them; trn, as NIST's
sclite has it, with the references in a file of their own; and an evaluation report.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgewhisper.evaluation import normalizing
from edgewhisper.evaluation.normalizing import NormalizerName
from edgewhisper.evaluation.wer import Record
from edgewhisper.reports.results import Report
from edgewhisper_runtime.errors import DataError, EdgeWhisperError
from edgewhisper_runtime.text.languages import to_code

_TRN = re.compile(r"(?P<text>.*)\((?P<id>[^()]+)\)\s*")
_SHOWN = 1000  # problems in a message


def read(
    path: Path,
    references: Path | None = None,
    language: str = "en",
    normalizer: NormalizerName | None = None,
) -> list[Record]:
    """Return the records of a file of transcripts; those of its variant if it is a report.

    `references` are needed for a trn file, and for no other. `language` is that of the lines which
    name none, `normalizer` that of all, unless it is a report. Raises DataError with all that is
    wrong, by line.
    """
    if path.suffix == ".trn":
        if references is None:
            raise DataError(f"{path} has no references. Name their trn file with --reference.")
        records, problems = _read_trn(path, references, language)
    else:
        if _is_report(path):
            variant = Report.read(path).records["variant"]
            return [record for of_split in variant.values() for record in of_split]
        records, problems = _read_json_lines(path, language)
    problems += [f"{where} has no text" for where in [path] if not records and not problems]
    if problems:
        rest = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise DataError(
            f"{path} cannot be scored: {'; '.join(problems[:_SHOWN])}{rest}. Mend these lines, or "
            "take them out."
        )
    return [replace(record, normalizer=normalizer) for record in records]


def _is_report(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        return False
    return isinstance(content, dict) and "records" in content


def _read_json_lines(path: Path, language: str) -> tuple[list[Record], list[str]]:
    records: list[Record] = []
    problems: list[str] = []
    lines: dict[str, int] = {}
    named: set[str] = set()  # records that have an id of their own
    for number, line in _lines(path, problems):
        try:
            values = json.loads(line)
            record = _record(values, language)
            if record.id in lines:
                raise ValueError(f"{record.id} is in line {lines[record.id]} too")
        except (ValueError, TypeError, EdgeWhisperError) as error:
            problems.append(f"line {number}: {str(error).rstrip('.')}")
            continue
        lines[record.id] = number
        named |= {record.id} if values.get("id") else set()
        records.append(record)
    # Other engines' paths may be those of another machine, so names of files are compared.
    names = [record.id if record.id in named else Path(record.id).stem for record in records]
    if len(set(names)) == len(names):
        records = [replace(r, id=name) for r, name in zip(records, names, strict=True)]
    return records, problems


def _record(values: Any, language: str) -> Record:
    """Return a line's record; raise an error for what is wrong with it."""
    if not isinstance(values, dict):
        raise TypeError("no JSON object")
    reference = _text(values, "text", "reference")
    own = to_code(_text(values, "language", "lang", default=language)) or language
    if not normalizing.units(reference, normalizing.rule(own)):
        raise ValueError("no words are left of the reference")
    return Record(
        id=_text(values, "id", "audio_filepath"),
        speaker=_text(values, "speaker", default=""),
        reference=reference,
        hypothesis=_text(values, "pred_text", "hypothesis"),
        duration=_number(values, "duration"),
        seconds=_number(values, "time", "seconds"),
        language=own,
    )


def _text(values: dict[str, Any], *keys: str, default: str | None = None) -> str:
    key = next((key for key in keys if values.get(key) is not None), None)
    if key is None:
        if default is None:
            raise ValueError(f"no {keys[0]}")
        return default
    if not isinstance(values[key], str):
        raise TypeError(f"{key} is no text")
    return str(values[key])


def _number(values: dict[str, Any], *keys: str) -> float:
    """Return a number of seconds, 0 where there is none."""
    number = next((values[key] for key in keys if values.get(key) is not None), 0.0)
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise TypeError(f"{keys[0]} is no number")
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{keys[0]} is {number}")
    return float(number)


def _read_trn(path: Path, references: Path, language: str) -> tuple[list[Record], list[str]]:
    """Read both files; the speaker is what stands before an id's first hyphen or underscore.

    So sclite reads its ids of the kind "spu_id".
    """
    problems: list[str] = []
    expected = _trn_texts(references, problems)
    texts = _trn_texts(path, problems)
    records = []
    for key, (where, reference) in expected.items():
        if key not in texts:
            problems.append(f"{where}: {path.name} has no text of {key}")
        if not normalizing.units(reference, normalizing.rule(language)):
            problems.append(f"{where}: no words are left of the reference")
        speaker, separator, _ = re.sub("_", "-", key, count=1).partition("-")
        hypothesis = texts.get(key, ("", ""))[1]
        records.append(
            Record(key, speaker if separator else "", reference, hypothesis, 0.0, 0.0,
                   language=language)
        )  # fmt: skip
    problems += [
        f"{where}: {references.name} has no reference of {key}"
        for key, (where, _) in texts.items()
        if key not in expected
    ]
    return records, problems


def _trn_texts(path: Path, problems: list[str]) -> dict[str, tuple[str, str]]:
    """Return place and text by id."""
    texts: dict[str, tuple[str, str]] = {}
    for number, line in _lines(path, problems):
        where = f"{path.name} line {number}"
        if line.startswith(";;"):  # a comment
            continue
        match = _TRN.fullmatch(line)
        if match is None:
            problems.append(f"{where}: no (id) at the end")
        elif match["id"] in texts:
            problems.append(f"{where}: {match['id']} is in {texts[match['id']][0]} too")
        elif re.search(r"[{}@]", match["text"]):
            problems.append(f"{where}: alternatives in braces and @ are not scored here")
        else:
            texts[match["id"]] = (where, match["text"].strip())
    return texts


def _lines(path: Path, problems: list[str]) -> Iterator[tuple[int, str]]:
    """Yield each line that is not blank, with its number; a byte order mark is skipped."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}). Name another file.") from error
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            text = line.decode()
        except UnicodeDecodeError:
            problems.append(f"{path.name} line {number}: not UTF-8")
            continue
        if text.strip():
            yield number, text.strip()
