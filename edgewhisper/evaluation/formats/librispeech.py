"""LibriSpeech's layout: SPLIT/SPEAKER/CHAPTER with a .trans.txt, and audio in any format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgewhisper.evaluation.formats import Entry, Problem, Source, lines
from edgewhisper_runtime.cli.recordings import MEDIA_SUFFIXES, SUFFIXES

_CHAPTERS, _TRANSCRIPT = "*/*", "*.trans.txt"
_TRANSCRIPTS = f"{_CHAPTERS}/{_TRANSCRIPT}"  # below a split


SETTINGS: frozenset[str] = frozenset()


def matches(path: Path) -> bool:
    """Return whether a directory has splits with transcripts, or is one."""
    directories = _directories(path).values() if path.is_dir() else ()
    return any(_has_transcripts(each) for each in directories)


def splits(source: Source) -> tuple[str, ...]:
    """Return the names of the directories that have transcripts or audio in chapters."""
    return tuple(_directories(source.path))


def entries(source: Source, split: str) -> Iterator[Entry | Problem]:
    """Yield the entries by id; the speaker is the directory's name."""
    found: list[tuple[str, Entry | Problem]] = []
    chapters = (path for path in _directories(source.path)[split].glob(_CHAPTERS) if path.is_dir())
    for directory in sorted(chapters):
        audio: dict[str, Path] = {}
        for path in sorted(directory.iterdir(), reverse=True):
            if path.suffix.lower() in SUFFIXES | MEDIA_SUFFIXES:
                audio[path.stem] = path
        alone = dict(audio)
        for transcript in sorted(directory.glob(_TRANSCRIPT)):
            for line in lines.pairs(transcript):
                if isinstance(line, Problem):
                    found.append(("", line))
                    continue
                number, key, text = line
                where = f"{transcript}:{number}"
                path = audio.get(key, directory / f"{key}.flac")
                found.append((key, Entry(where, path, text, key, directory.parent.name)))
                alone.pop(key, None)
        reason = f"has no line in a {_TRANSCRIPT[1:]} beside it"
        found += [(key, Problem(str(path), reason)) for key, path in alone.items()]
    yield from (item for _, item in sorted(found, key=lambda pair: pair[0]))


def _directories(path: Path) -> dict[str, Path]:
    """Return the directories of splits, by name: the path itself, or those in it."""
    if _has_transcripts(path):
        return {path.resolve().name: path}
    directories = sorted(each for each in path.iterdir() if each.is_dir())
    return {each.name: each for each in directories if _has_transcripts(each) or _has_audio(each)}


def _has_transcripts(split: Path) -> bool:
    return next(split.glob(_TRANSCRIPTS), None) is not None


def _has_audio(split: Path) -> bool:
    files = split.glob(f"{_CHAPTERS}/*")
    return any(file.suffix.lower() in SUFFIXES | MEDIA_SUFFIXES for file in files)
