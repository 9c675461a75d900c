"""Transcripts read from what other engines and tools write, for scoring by the same rules.

Three kinds of files: JSON lines, as NeMo and the Open ASR leaderboard have them; trn, as NIST's
sclite has it, with the references in a file of their own; and an evaluation report.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgewhisper.evaluation import checking, normalizing
from edgewhisper.evaluation.formats import Problem, lines
from edgewhisper.evaluation.normalizing import NormalizerName
from edgewhisper.evaluation.wer import Record
from edgewhisper.reports.results import Report
from edgewhisper_runtime.errors import DataError, EdgeWhisperError
from edgewhisper_runtime.text.languages import to_code

_TRN = re.compile(r"(?P<text>.*)\((?P<id>[^()]+)\)\s*")


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
    if problems:
        raise DataError(
            f"{path} cannot be scored: {checking.listed(problems)}. Mend these lines, or take them "
            "out."
        )
    if not records:
        raise DataError(f"{path} has no texts. Name another file.")
    return [replace(record, normalizer=normalizer) for record in records]


def _is_report(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        return False
    return isinstance(content, dict) and "records" in content


def _read_json_lines(path: Path, language: str) -> tuple[list[Record], list[Problem]]:
    records: list[Record] = []
    problems: list[Problem] = []
    numbers: dict[str, int] = {}
    named: set[str] = set()  # records that have an id of their own
    for line in lines.objects(path):
        if isinstance(line, Problem):
            problems.append(line)
            continue
        number, values = line
        try:
            record = _record(values, language)
            if record.id in numbers:
                raise ValueError(f"{record.id} is in line {numbers[record.id]} too")
        except (ValueError, TypeError, EdgeWhisperError) as error:
            problems.append(Problem(f"{path}:{number}", str(error).rstrip(".")))
            continue
        numbers[record.id] = number
        named |= {record.id} if values.get("id") else set()
        records.append(record)
    # Other engines' paths may be those of another machine, so names of files are compared.
    names = [record.id if record.id in named else Path(record.id).stem for record in records]
    if len(set(names)) == len(names):
        records = [replace(r, id=name) for r, name in zip(records, names, strict=True)]
    return records, problems


def _record(values: dict[str, Any], language: str) -> Record:
    """Return a line's record; raise an error for what is wrong with it."""
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
        raise TypeError(f"{key} is not a text")
    return str(values[key])


def _number(values: dict[str, Any], *keys: str) -> float:
    """Return a number of seconds, 0 where there is none."""
    number = next((values[key] for key in keys if values.get(key) is not None), 0.0)
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise TypeError(f"{keys[0]} is not a number")
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{keys[0]} is {number}")
    return float(number)


def _read_trn(path: Path, references: Path, language: str) -> tuple[list[Record], list[Problem]]:
    """Read both files; the speaker is what stands before an id's first hyphen or underscore.

    So sclite reads its ids of the kind "spu_id".
    """
    problems: list[Problem] = []
    expected = _trn_texts(references, problems)
    texts = _trn_texts(path, problems)
    records = []
    for key, (where, reference) in expected.items():
        if key not in texts:
            problems.append(Problem(where, f"{path} has no text of {key}"))
        if not normalizing.units(reference, normalizing.rule(language)):
            problems.append(Problem(where, "no words are left of the reference"))
        speaker, separator, _ = re.sub("_", "-", key, count=1).partition("-")
        hypothesis = texts.get(key, ("", ""))[1]
        records.append(
            Record(key, speaker if separator else "", reference, hypothesis, 0.0, 0.0,
                   language=language)
        )  # fmt: skip
    problems += [
        Problem(where, f"{references} has no reference of {key}")
        for key, (where, _) in texts.items()
        if key not in expected
    ]
    return records, problems


def _trn_texts(path: Path, problems: list[Problem]) -> dict[str, tuple[str, str]]:
    """Return place and text by id."""
    texts: dict[str, tuple[str, str]] = {}
    for line in lines.read(path):
        if isinstance(line, Problem):
            problems.append(line)
            continue
        where, text = f"{path}:{line[0]}", line[1].strip()
        if text.startswith(";;"):  # a comment
            continue
        match = _TRN.fullmatch(text)
        if match is None:
            problems.append(Problem(where, "has no (id) at the end"))
        elif match["id"] in texts:
            problems.append(Problem(where, f"{match['id']} is in {texts[match['id']][0]} too"))
        elif re.search(r"[{}@]", match["text"]):
            problems.append(Problem(where, "alternatives in braces and @ are not scored here"))
        else:
            texts[match["id"]] = (where, match["text"].strip())
    return texts
