"""Transcripts read from what other engines and tools write, for scoring by the same rules.

Three kinds of files: JSON lines, as NeMo and the Open ASR leaderboard have them; trn, as NIST's
sclite has it, with the references in a file of their own; and an evaluation report.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgewhisper.evaluation import checking, normalizing
from edgewhisper.evaluation.formats import Problem, lines
from edgewhisper.evaluation.normalizing import NormalizerName
from edgewhisper.evaluation.wer import Record
from edgewhisper.reports.results import Report, read_object
from edgewhisper_runtime.decode.repetition import is_looping
from edgewhisper_runtime.errors import DataError, EdgeWhisperError
from edgewhisper_runtime.text.languages import to_code

_LONGEST_SECONDS = 1e9
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
    if not path.is_file():
        raise DataError(
            f"{path} is no regular file, and it is read more than once. Save it in one."
        )
    if is_trn(path):
        if references is None:
            raise DataError(f"{path} has no references. Name their trn file with --reference.")
        records, problems = _read_trn(path, references, language, normalizer)
    else:
        if "records" in read_object(path):
            variant = Report.read(path).records["variant"]
            return [record for of_split in variant.values() for record in of_split]
        records, problems = _read_json_lines(path, language, normalizer)
    if problems:
        raise DataError(
            f"{path} cannot be scored: {checking.listed(problems)}. Mend these lines, or take them "
            "out."
        )
    if not records:
        raise DataError(f"{path} has no texts. Name another file.")
    return records


def is_trn(path: Path) -> bool:
    """Return whether a file is a trn file, by its name."""
    return path.suffix.lower() == ".trn"


def _read_json_lines(
    path: Path, language: str, normalizer: NormalizerName | None
) -> tuple[list[Record], list[Problem]]:
    records: list[Record] = []
    problems: list[Problem] = []
    numbers: dict[str, int] = {}
    for line in lines.objects(path):
        if isinstance(line, Problem):
            problems.append(line)
            continue
        number, values = line
        try:
            record = _record(values, language, normalizer)
            if record.id in numbers:
                raise ValueError(f"{record.id} is in line {numbers[record.id]} too")
        except (ValueError, TypeError, EdgeWhisperError) as error:
            problems.append(Problem(f"{path}:{number}", str(error).rstrip(".")))
            continue
        numbers[record.id] = number
        records.append(record)
    return records, problems


def _record(values: dict[str, Any], language: str, normalizer: NormalizerName | None) -> Record:
    """Return a line's record; raise an error for what is wrong with it."""
    hypothesis = _text(values, "pred_text", "hypothesis")
    record = Record(
        id=_text(values, "id", "audio_filepath"),
        speaker=_text(values, "speaker", default=""),
        reference=_text(values, "text", "reference"),
        hypothesis=hypothesis,
        duration=_number(values, "duration"),
        seconds=_number(values, "time", "seconds"),
        problem=_problem(hypothesis),
        language=to_code(_text(values, "language", "lang", default=language)) or language,
        normalizer=normalizer,
    )
    if not normalizing.is_spoken(record.reference, record.rule):
        raise ValueError("no words are left of the reference")
    return record


def _problem(hypothesis: str) -> str | None:
    """Return what is wrong with a text, as far as the text alone shows it."""
    words = hypothesis.split()
    if not words:
        return "empty"
    return "looping" if is_looping(words) else None


def _text(values: dict[str, Any], *keys: str, default: str | None = None) -> str:
    key = next((key for key in keys if values.get(key) is not None), None)
    if key is None:
        if default is None:
            raise ValueError(f"no {keys[0]}")
        return default
    if not isinstance(values[key], (str, int)) or isinstance(values[key], bool):
        raise TypeError(f"{key} is not a text")
    return str(values[key])


def _number(values: dict[str, Any], *keys: str) -> float:
    """Return a number of seconds, 0 where there is none."""
    number = next((values[key] for key in keys if values.get(key) is not None), 0.0)
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise TypeError(f"{keys[0]} is not a number")
    if not 0 <= number <= _LONGEST_SECONDS:
        raise ValueError(f"{keys[0]} is not from 0 to {_LONGEST_SECONDS:g} s")
    return float(number)


def _read_trn(
    path: Path, references: Path, language: str, normalizer: NormalizerName | None
) -> tuple[list[Record], list[Problem]]:
    """Read both files; the speaker is what stands before an id's first hyphen or underscore.

    So sclite reads its ids of the kind "spu_id". Where that is the same for all, such as "rec", it
    is no speaker's name.
    """
    problems: list[Problem] = []
    expected = _trn_texts(references, problems)
    texts = _trn_texts(path, problems)
    records = []
    for key, (where, reference) in expected.items():
        if key not in texts:
            problems.append(Problem(where, f"{path} has no text of {key}"))
        if not normalizing.is_spoken(reference, normalizing.rule(language, normalizer)):
            problems.append(Problem(where, "no words are left of the reference"))
        speaker, separator, _ = re.sub("_", "-", key, count=1).partition("-")
        hypothesis = texts.get(key, ("", ""))[1]
        records.append(
            Record(key, speaker if separator else "", reference, hypothesis, 0.0, 0.0,
                   _problem(hypothesis), language, normalizer)
        )  # fmt: skip
    if len({record.speaker for record in records}) == 1:
        records = [replace(record, speaker="") for record in records]
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
        else:
            if re.search(r"[{}@]", match["text"]):
                problems.append(Problem(where, "alternatives in braces and @ are not scored here"))
            texts[match["id"]] = (where, match["text"].strip())
    return texts
