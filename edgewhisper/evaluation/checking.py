"""The check of a data set before any work: each entry becomes an utterance or a problem."""

from __future__ import annotations

import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgewhisper.evaluation import normalizing
from edgewhisper.evaluation.conditions import CLEAN, Condition
from edgewhisper.evaluation.formats import Entry, Problem
from edgewhisper.evaluation.normalizing import NormalizerName
from edgewhisper.progress import Progress, ignore
from edgewhisper_runtime import audio
from edgewhisper_runtime.errors import AudioError, EdgeWhisperError, amount, printable
from edgewhisper_runtime.text.languages import is_named, to_code

# A stated duration may be rounded, and a lossy format adds some silence.
_TOLERANCE_SECONDS, _TOLERANCE_SHARE = 0.25, 0.02
_LONGEST_NAME = 512  # characters of an id or a speaker
_LONGEST_TEXT = 1 << 20
_NAMES = {"\t": "a tab", "\n": "a line break", "\ufeff": "a byte order mark"}
_SHOWN, _SHOWN_CHARACTERS = 1000, 100  # problems in a message, and characters of a text
_STEP = 100  # entries between two reports of progress; fewer are checked at once
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Utterance:
    """One recording with its reference text; duration in seconds. No speaker: an empty name.

    `language` is a code of Whisper's; texts are scored as usual in it unless `normalizer` says
    otherwise. The audio is that of the file in `condition`, and `duration` is what that leaves of
    it.
    """

    id: str
    speaker: str
    path: Path
    reference: str
    duration: float
    language: str = "en"
    normalizer: NormalizerName | None = None
    condition: Condition = CLEAN

    def under(self, condition: Condition) -> Utterance:
        """Return a clean utterance in a condition."""
        return replace(self, duration=self.duration / condition.speed, condition=condition)

    def samples(self) -> audio.Samples:
        """Return the audio in its condition, float32 [n] at 16 kHz."""
        return self.condition.apply(audio.load(self.path), self.id)


def check(
    splits: Mapping[str, Sequence[Entry | Problem]],
    language: str | None,
    normalizer: NormalizerName | None = None,
    progress: Progress = ignore,
    task: str = "checking",
) -> tuple[dict[str, tuple[Utterance, ...]], list[Problem]]:
    """Return the utterances of each split that can be used, in order, and why others cannot.

    `language` is that of entries that name none: English, with a warning, where it is None.
    `normalizer` is that of all. An id must be unique in its split, a file in all of them; ids that
    several splits have get the split's name before them. Of audio only the headers are read, where
    they tell its duration.
    """
    usable: dict[str, list[Utterance]] = {split: [] for split in splits}
    problems: list[Problem] = []
    places: dict[tuple[str, ...], str] = {}  # of ids and files
    items = [(split, item) for split, of_split in splits.items() for item in of_split]
    assumed = 0
    for done, (split, item) in enumerate(items, 1):
        if isinstance(item, Problem):
            problems.append(item)
        else:
            assumed += language is None and not is_named(item.language)
            utterance, reasons = _utterance(item, language or "en", normalizer)
            keys = (("audio", real_path(item.audio)), ("id", item.id, split))
            # An id that was made of the path is no second problem.
            if twice := next(filter(places.__contains__, keys), None):
                reasons.append(f"the {twice[0]} {twice[1]} is that of {places[twice]} too")
            for key in keys:
                places.setdefault(key, item.where)
            if utterance and not reasons:
                usable[split].append(utterance)
            problems += [Problem(item.where, reason) for reason in reasons]
        if len(items) > _STEP and (done % _STEP == 0 or done == len(items)):
            progress(task, done, len(items))
    if assumed:
        _log.warning(
            "the data does not say the language of %d utterances: English is taken. Another can "
            "be named with --language or in a data card",
            assumed,
        )
    ids = Counter(utterance.id for of_split in usable.values() for utterance in of_split)
    for split, of_split in usable.items():
        usable[split] = [
            replace(each, id=f"{split}/{each.id}") if ids[each.id] > 1 else each
            for each in of_split
        ]
    # A line that cannot be read may be of any split, so each has its problem.
    return {split: tuple(of) for split, of in usable.items()}, list(dict.fromkeys(problems))


def describe(problems: list[Problem], usable: int) -> str:
    """Return all problems in one line, for an error."""
    return (
        f"{amount(len(problems), 'problem')} in the data, {amount(usable, 'utterance')} without "
        "one. Nothing was transcribed. Mend them, or leave these utterances out with --skip-bad. "
        f"{listed(problems)}"
    )


def listed(problems: Sequence[Problem]) -> str:
    """Return problems on one line, the first of very many."""
    rest = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return "; ".join(map(str, problems[:_SHOWN])) + rest


def _utterance(
    entry: Entry, language: str, normalizer: NormalizerName | None
) -> tuple[Utterance | None, list[str]]:
    """Return the utterance of an entry, and all that is wrong with it."""
    reasons = []
    for name, text, unfit in (
        ("id", entry.id, _is_hidden),
        ("speaker", entry.speaker, _is_hidden),
        ("text", entry.text, _is_control),
    ):
        if character := next(filter(unfit, text), None):
            kind = "control" if _is_control(character) else "hidden"
            shown = _NAMES.get(character, f"U+{ord(character):04X}")
            reasons.append(f"the {name} has a {kind} character ({shown})")
        if len(text) > (longest := _LONGEST_TEXT if name == "text" else _LONGEST_NAME):
            reasons.append(f"the {name} has {len(text)} characters, more than {longest}")
    try:
        language = to_code(entry.language) or language
        rule = normalizing.rule(language, normalizer)
        if entry.text and not normalizing.is_spoken(entry.text, rule):
            reasons.append(f"the text {entry.text[:_SHOWN_CHARACTERS]!r} has no words")
    except EdgeWhisperError as error:
        reasons.append(str(error).rstrip("."))
    if not entry.text:
        reasons.append("the text is empty")
    try:
        seconds = _seconds(entry.audio)
    except AudioError as error:
        return None, [*reasons, str(error).rstrip(".")]
    stated = seconds if entry.duration is None else entry.duration
    if not abs(stated - seconds) <= _TOLERANCE_SECONDS + _TOLERANCE_SHARE * seconds:
        reasons.append(f"the duration is {stated:g} s, and the audio has {seconds:.2f} s")
    utterance = Utterance(
        entry.id, entry.speaker, entry.audio, entry.text, seconds, language, normalizer
    )
    return utterance, reasons


def _is_control(character: str) -> bool:
    """Return whether no text may have this: a control character, or half of a pair (surrogate)."""
    return character == "\ufeff" or unicodedata.category(character) in {"Cc", "Cs"}


def _is_hidden(character: str) -> bool:
    """Return whether a name, which is shown on terminals, cannot have this."""
    return printable(character) != character


def real_path(path: Path) -> str:
    """Return what is the same for every path of one file."""
    try:
        return os.path.realpath(path)
    except ValueError:  # no path at all, such as one with a NUL
        return str(path)


def _seconds(path: Path) -> float:
    """Return the duration of a file in seconds; raise AudioError where it cannot be read."""
    import soundfile

    seconds = audio.header_seconds(path)
    if seconds is None:
        try:
            seconds = float(soundfile.info(path).duration)
        except soundfile.LibsndfileError:
            seconds = sum(map(len, audio.stream(path))) / audio.SAMPLE_RATE
    if seconds <= 0:
        raise AudioError(f"{path} holds 0 s of audio.")
    return seconds
