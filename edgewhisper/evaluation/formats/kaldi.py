"""A Kaldi data directory: wav.scp and text, and where there utt2spk, utt2lang and utt2dur.

Nothing is executed: a line of wav.scp that is a command is refused. So is a directory with
segments, whose utterances are parts of recordings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from edgewhisper.evaluation.formats import Entry, Problem, Source, fields, lines
from edgewhisper_runtime.errors import DataError, EdgeWhisperError
from edgewhisper_runtime.text.languages import to_code

T = TypeVar("T")
_AUDIO, _TEXT = "wav.scp", "text"


SETTINGS = frozenset({"audio"})


def matches(path: Path) -> bool:
    """Return whether a directory has wav.scp and text, or a directory that has them."""
    found = _directories(path)
    if found and not any((directory / _TEXT).is_file() for directory in found.values()):
        raise DataError(f"{path} has {_AUDIO}, and no {_TEXT} beside it. Name other data.")
    return bool(found)


def splits(source: Source) -> tuple[str, ...]:
    """Return the names of the directories."""
    return tuple(_directories(source.path))


def entries(source: Source, split: str) -> Iterator[Entry | Problem]:
    """Yield the entries in the order of `text`; raise DataError for a directory with segments."""
    directory = _directories(source.path)[split]
    if (directory / "segments").exists():
        raise DataError(
            f"{directory} has segments, and only whole recordings are read. Cut them into a file "
            "for each utterance, as by `extract-segments`."
        )
    unfit: dict[str, Problem] = {}
    speakers = _values(directory / "utt2spk", str, unfit)
    languages = _values(directory / "utt2lang", _language, unfit)
    durations = _values(directory / "utt2dur", _seconds, unfit)
    audio = dict[str, tuple[str, str]]()
    for where, key, path in _unique(directory / _AUDIO, problems := list[Problem]()):
        if path.endswith("|"):
            problems.append(Problem(where, f"the audio of {key} is a command; none is executed"))
        audio[key] = where, path
    base = source.audio or directory
    for where, key, text in _unique(directory / _TEXT, problems):
        _, path = audio.pop(key, ("", ""))
        if not path:
            problems.append(Problem(where, f"{key} has no audio in {_AUDIO}"))
        elif key in unfit:
            problems.append(unfit[key])
        elif not path.endswith("|"):
            speaker, language = speakers.get(key, ""), languages.get(key, "")
            yield Entry(where, base / path, text, key, speaker, language, durations.get(key))
    problems += [Problem(where, f"{key} has no text") for key, (where, _) in audio.items()]
    yield from problems


def _values(path: Path, read: Callable[[str], T], unfit: dict[str, Problem]) -> dict[str, T]:
    """Return what a file says of utterances; add the problems of values to `unfit`.

    Raises DataError for a line of which it cannot be known what utterance it is about.
    """
    problems: list[Problem] = []
    values: dict[str, T] = {}
    for where, key, value in _unique(path, problems):
        try:
            values[key] = read(value)
        except (ValueError, EdgeWhisperError) as error:
            unfit[key] = Problem(where, str(error).rstrip("."))
    if problems:
        raise DataError(
            f"{'; '.join(map(str, problems))}. It cannot be known which utterance such a line is "
            "about: mend the file, or take it away."
        )
    return values


def _language(text: str) -> str:
    to_code(text)  # an unknown one has its problem here, where it stands
    return text


def _seconds(text: str) -> float:
    if (seconds := fields.seconds(text)) is None:
        raise ValueError(f"{text!r} is not a number of seconds")
    return seconds


def _unique(path: Path, problems: list[Problem]) -> Iterator[tuple[str, str, str]]:
    """Yield place, key and value of each line of a file, if it exists; add to the problems."""
    places: dict[str, str] = {}
    for line in lines.pairs(path) if path.is_file() else ():
        if isinstance(line, Problem):
            problems.append(line)
            continue
        number, key, value = line
        where = f"{path}:{number}"
        if key in places:
            problems.append(Problem(where, f"{key} stands at {places[key]} too"))
        else:
            places[key] = where
            yield where, key, value


def _directories(path: Path) -> dict[str, Path]:
    """Return the directories with audio, by name: the path itself, or those in it."""
    if not path.is_dir():
        return {}
    if (path / _AUDIO).is_file():
        return {path.resolve().name: path}
    directories = sorted(path.iterdir())
    return {each.name: each for each in directories if (each / _AUDIO).is_file()}
