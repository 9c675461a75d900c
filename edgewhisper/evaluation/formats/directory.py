"""A directory, and those below it, of audio with a text of the same name beside each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgewhisper.evaluation.formats import Entry, Problem, Source, tree
from edgewhisper_runtime.cli.recordings import MEDIA_SUFFIXES, SUFFIXES

_TEXT = ".txt"
_AUDIO = SUFFIXES | MEDIA_SUFFIXES


SETTINGS: frozenset[str] = frozenset()


def matches(path: Path) -> bool:
    """Return whether there is a text with audio beside it."""
    if not path.is_dir():
        return False
    texts = {text.with_suffix("") for text in tree.files(path, {_TEXT})}
    beside = (file for directory in {text.parent for text in texts} for file in directory.iterdir())
    return any(
        file.suffix.lower() in _AUDIO and file.with_suffix("") in texts and file.is_file()
        for file in beside
    )


def splits(source: Source) -> tuple[str, ...]:
    """Return the name of the directory: it is one split."""
    return (source.path.resolve().name,)


def entries(source: Source, split: str) -> Iterator[Entry | Problem]:  # noqa: ARG001 # there is one
    """Yield the entries by path; the id is the path below the directory."""
    texts: dict[Path, Path] = {}
    for path in tree.files(source.path, {_TEXT}):
        first = texts.setdefault(path.with_suffix(""), path)
        if first != path:
            yield Problem(str(path), f"is a second text of the audio that {first.name} is beside")
    audio = {*tree.files(source.path, _AUDIO)}
    alone = texts.keys() - {path.with_suffix("") for path in audio}
    taken: dict[Path, Path] = {}
    for path in sorted({*audio, *(texts[key] for key in alone)}):
        text = texts.get(path.with_suffix(""))
        if path is text:
            yield Problem(str(path), "has no audio beside it")
        elif text is None:
            yield Problem(str(path), f"has no text beside it ({path.stem}{_TEXT})")
        elif text in taken:
            yield Problem(str(path), f"has the text of {taken[text].name} too")
        else:
            taken[text] = path
            yield _entry(source, path, text)


def _entry(source: Source, audio: Path, text: Path) -> Entry | Problem:
    try:
        content = text.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        return Problem(str(text), f"is not UTF-8 ({error.reason} at byte {error.start})")
    except OSError as error:
        return Problem(str(text), f"could not be read ({error.strerror})")
    # A text may be written on several lines.
    return Entry(str(text), audio, " ".join(content.split()), str(audio.relative_to(source.path)))
