"""Finding and reading LibriSpeech, or the synthetic smoke set in the same layout."""

from __future__ import annotations

from pathlib import Path

import soundfile

from edgewhisper.evaluation.datasets import Dataset, Utterance
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.errors import AudioError, DataError
from edgewhisper_runtime.measure.profile import SPEECH

LIBRISPEECH = "LibriSpeech"
SMOKE = "synthetic smoke set"
SPLITS = ("test-clean", "test-other")
ALL_SPLITS = ("dev-clean", "dev-other", "test-clean", "test-other")
_AUDIO_SUFFIXES = (".flac", ".opus", ".wav")


def find(
    workspace: Workspace, directory: Path | None = None, splits: tuple[str, ...] = ()
) -> Dataset:
    """Return the data to evaluate on.

    From `directory`, else the workspace's `speech`, else what was downloaded, else the smoke
    set. Without `splits`: those of test-clean and test-other that are there.
    Raises DataError when a directory or split that was asked for is not there.
    """
    named = directory or workspace.speech
    root = named or workspace.librispeech
    if (root / LIBRISPEECH).is_dir():
        root = root / LIBRISPEECH
    present = tuple(split for split in ALL_SPLITS if (root / split).is_dir())
    if named and not present:
        raise DataError(
            f"{named} holds no LibriSpeech split ({', '.join(ALL_SPLITS)}). Name the directory "
            "that has them, or run `edgewhisper data librispeech`."
        )
    if not present:
        if splits and splits != ("smoke",):
            raise DataError(
                f"LibriSpeech is not here, so {', '.join(splits)} cannot be used. Run "
                f"`edgewhisper data librispeech`, or set EDGEWHISPER_LIBRISPEECH or --librispeech."
            )
        return Dataset(SMOKE, SPEECH, ("smoke",), synthetic=True)
    chosen = splits or tuple(split for split in SPLITS if split in present) or present
    if absent := [split for split in chosen if split not in present]:
        raise DataError(
            f"{root} has no split {absent[0]!r}; it has {', '.join(present)}. "
            f"Run `edgewhisper data librispeech --split {absent[0]}`."
        )
    return Dataset(LIBRISPEECH, root, chosen)


def utterances(dataset: Dataset, split: str, limit: int | None = None) -> list[Utterance]:
    """Return the split's utterances by id; with `limit`, that many, evenly spread over them.

    Raises DataError for a transcript without audio, or an empty split.
    """
    directory = dataset.root / split
    texts = {}
    for transcript in sorted(directory.glob("*/*/*.trans.txt")):
        try:
            lines = transcript.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise DataError(f"{transcript} is not UTF-8 ({error}). Download it again.") from error
        for line in filter(str.strip, lines):
            name, _, text = line.partition(" ")
            texts[name] = (transcript.parent, text)
    names = sorted(texts)
    if not names:
        raise DataError(f"{directory} has no transcripts (*.trans.txt). Download it again.")
    if limit is not None and limit < len(names):
        names = [names[n * len(names) // limit] for n in range(limit)]
    return [_utterance(name, *texts[name]) for name in names]


def _utterance(name: str, directory: Path, text: str) -> Utterance:
    candidates = (directory / f"{name}{suffix}" for suffix in _AUDIO_SUFFIXES)
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        raise DataError(f"{directory} has the text of {name} but not its audio. Download it again.")
    try:
        duration = soundfile.info(path).duration
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path} could not be read as audio ({error}).") from error
    return Utterance(name, name.split("-", maxsplit=1)[0], path, text, duration)
