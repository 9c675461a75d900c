"""A Kaldi data directory: wav.scp and text, and where there utt2spk, utt2lang and utt2dur.

Nothing is executed: a line of wav.scp that is a command is refused. So is a directory with
segments, whose utterances are parts of recordings.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgewhisper.evaluation.formats import Entry, Problem, Source, lines
from edgewhisper_runtime.errors import DataError

_AUDIO, _TEXT = "wav.scp", "text"


def matches(path: Path) -> bool:
    """Return whether a directory has wav.scp and text, or directories that have them."""
    return bool(_directories(path))


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
    speakers, languages, durations = (
        _values(directory / name) for name in ("utt2spk", "utt2lang", "utt2dur")
    )
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
        elif not path.endswith("|"):
            seconds = _seconds(durations.get(key))
            speaker, language = speakers.get(key, ""), languages.get(key, "")
            yield Entry(where, base / path, text, key, speaker, language, seconds)
    problems += [Problem(where, f"{key} has no text") for key, (where, _) in audio.items()]
    yield from problems


def _values(path: Path) -> dict[str, str]:
    """Return what a file says of utterances; raise DataError where a line of it has a problem."""
    problems: list[Problem] = []
    values = {key: value for _, key, value in _unique(path, problems)}
    if problems:
        raise DataError(
            f"{'; '.join(map(str, problems))}. It cannot be known which utterance such a line is "
            "about: mend the file, or take it away."
        )
    return values


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
    """Return Kaldi's data directories, by name: the path itself, or those in it."""
    if not path.is_dir():
        return {}
    if (path / _AUDIO).is_file():
        candidates = {path.resolve().name: path}
    else:
        candidates = {directory.name: directory for directory in sorted(path.iterdir())}
    return {
        name: directory
        for name, directory in candidates.items()
        if (directory / _AUDIO).is_file() and (directory / _TEXT).is_file()
    }


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return float("nan")
