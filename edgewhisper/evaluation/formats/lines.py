"""Lines of text files of unknown origin: UTF-8, of bounded length, numbered."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgewhisper.evaluation.formats import Problem
from edgewhisper_runtime.bundle import decode_json
from edgewhisper_runtime.errors import DataError

LONGEST = 1 << 20  # bytes; an hour of speech is 60,000 characters
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read(path: Path) -> Iterator[tuple[int, str] | Problem]:
    """Yield number and text of each line that is not blank, without its end; a problem for others.

    A byte order mark at the beginning of the file, as Excel writes it, is left out. Raises
    DataError for a file that cannot be opened, is UTF-16, or begins as no text does.
    """
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(LONGEST + 1):
                number += 1
                if number == 1:
                    if line.startswith(_UTF16):
                        raise DataError(f"{path} is UTF-16. Save it as UTF-8.")
                    if b"\0" in line:
                        raise DataError(f"{path} is not a text file. Name one in UTF-8.")
                    line = line.removeprefix(codecs.BOM_UTF8)
                where = f"{path}:{number}"
                if len(line) > LONGEST:
                    while line and not line.endswith(b"\n"):
                        line = file.readline(LONGEST)
                    yield Problem(where, f"the line has more than {LONGEST:,} bytes")
                    continue
                try:
                    text = line.decode("utf-8").rstrip("\r\n")
                except UnicodeDecodeError as error:
                    yield Problem(where, f"is not UTF-8 ({error.reason} at byte {error.start})")
                    continue
                if text.strip():
                    yield number, text
    except OSError as error:
        raise DataError(f"{path} could not be read ({error.strerror}). Check the path.") from error


def objects(path: Path) -> Iterator[tuple[int, dict[str, Any]] | Problem]:
    """Yield number and content of each line of JSON lines that is an object; a problem for others.

    Raises DataError for a list over several lines or in one, and what `read` raises.
    """
    begun = False
    for line in read(path):
        if isinstance(line, Problem):
            yield line
            continue
        number, text = line
        if not begun and text.lstrip().startswith("["):
            raise DataError(f"{path} is a JSON list. Save it as JSON lines, an object in each.")
        begun = True
        try:
            content = decode_json(text)
        except json.JSONDecodeError as error:
            yield Problem(f"{path}:{number}", f"is not JSON ({error.msg}, character {error.colno})")
        except ValueError as error:  # a number too long, or too many brackets
            yield Problem(f"{path}:{number}", f"is not JSON ({error})")
        else:
            if isinstance(content, dict):
                yield number, content
            else:
                yield Problem(f"{path}:{number}", "is not a JSON object: each line must be one")


def pairs(path: Path) -> Iterator[tuple[int, str, str] | Problem]:
    """Yield number, first word and rest of each line, as Kaldi's files and LibriSpeech's have it.

    Raises what `read` raises.
    """
    for line in read(path):
        if isinstance(line, Problem):
            yield line
        else:
            key, *rest = line[1].split(maxsplit=1)
            yield line[0], key, rest[0].strip() if rest else ""


def first(path: Path) -> str:
    """Return the first line that is not blank, "" where it is no text; for recognizing a format.

    Of the longest line that is read only.
    """
    with path.open("rb") as file:
        head = file.read(LONGEST).removeprefix(codecs.BOM_UTF8)
    encoding = "utf-16" if head.startswith(_UTF16) else "utf-8"
    line = head.decode(encoding, "replace").strip().split("\n", 1)[0].strip()
    return "" if "\0" in line else line
