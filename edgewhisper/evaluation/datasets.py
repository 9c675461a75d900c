"""Data sets for evaluation: found by path or name, and checked as a whole before any work."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from edgewhisper.evaluation import cards, checking, formats
from edgewhisper.evaluation.cards import Card
from edgewhisper.evaluation.checking import Utterance
from edgewhisper.evaluation.formats import Problem
from edgewhisper.evaluation.formats.splits import is_development, is_test
from edgewhisper.evaluation.librispeech import find_card, root_of
from edgewhisper.progress import Progress, ignore
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.bundle import DatasetRecord
from edgewhisper_runtime.errors import DataError, amount, printable, suggest
from edgewhisper_runtime.text.languages import LANGUAGES

if TYPE_CHECKING:
    from edgewhisper.checkpoints import Checkpoint

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dataset:
    """Speech with references that has been checked: utterances by split, in a fixed order.

    `skipped` are the problems of utterances that were left out. `librispeech` is the directory of
    the splits that recipes calibrate on, if there is one.
    """

    card: Card
    utterances: dict[str, tuple[Utterance, ...]]
    skipped: tuple[Problem, ...] = ()
    librispeech: Path | None = None

    @property
    def name(self) -> str:
        """The name in reports."""
        return self.card.name

    @property
    def synthetic(self) -> bool:
        """Whether it proves nothing about people."""
        return self.card.synthetic

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits."""
        return tuple(self.utterances)

    @property
    def languages(self) -> Counter[str]:
        """The number of utterances by language, the most frequent first."""
        every = (utterance.language for of in self.utterances.values() for utterance in of)
        return Counter(dict(Counter(every).most_common()))

    def record(self, limit: int | None) -> DatasetRecord:
        """Return what a report says of it, evaluated on at most `limit` utterances of a split."""
        skipped = len({problem.where for problem in self.skipped})  # one may have several
        return DatasetRecord(self.name, self.synthetic, limit, self.card.licence, skipped)


def find_dataset(
    workspace: Workspace,
    data: str | Path | None = None,
    splits: tuple[str, ...] = (),
    *,
    librispeech: Path | None = None,
    language: str | None = None,
    skip_bad: bool = False,
    progress: Progress = ignore,
) -> Dataset:
    """Return a data set, checked: a path in any registered format, or the name of a data card.

    LibriSpeech where `data` is None, from `librispeech` or where the workspace has it; if
    it is not here, the synthetic smoke set. `splits` are those to evaluate on, the card's usual
    ones unless named. `language` is the code of utterances that name no language.

    Raises DataError where the data is not there, and for all problems in it at once, unless
    `skip_bad` leaves such utterances out.
    """
    if data is None:
        card = find_card(workspace, librispeech, splits)
    else:
        card = cards.find(workspace, data)
    card = replace(card, language=language or card.language)
    root = root_of(workspace, librispeech)
    utterances, problems = read(card, splits, progress)
    usable = sum(map(len, utterances.values()))
    if problems and not skip_bad:
        raise DataError(f"{card.path}: {checking.describe(problems, usable)}")
    if empty := [split for split, of_split in utterances.items() if not of_split]:
        raise DataError(f"{card.path}: no utterance of {empty[0]} can be used. Name other data.")
    if problems:
        _log.warning(
            "%s in the data; the utterances concerned are left out",
            amount(len(problems), "problem"),
        )
    return Dataset(card, utterances, tuple(problems), root)


def read(
    card: Card, splits: tuple[str, ...] = (), progress: Progress = ignore
) -> tuple[dict[str, tuple[Utterance, ...]], list[Problem]]:
    """Return the usable utterances of a card's data by split, and the problems of the others.

    Raises DataError for a split that is not there, and for data that cannot be read at all.
    """
    reader, source = formats.find(card.format), card.source
    try:
        present = reader.splits(source)
        chosen = _chosen(card, splits, present)
        items = {split: list(reader.entries(source, split)) for split in chosen}
    except OSError as error:
        raise DataError(f"{card.path} could not be read ({error}). Check its files.") from error
    if empty := [split for split, of_split in items.items() if not of_split]:
        raise DataError(f"{card.path}: {empty[0]} has no utterances. Name other data.")
    return checking.check(items, card.language, card.normalizer, progress, f"checking {card.name}")


def utterances(dataset: Dataset, split: str, limit: int | None = None) -> list[Utterance]:
    """Return the utterances of a split; with a limit, that many, evenly spread over them."""
    return thinned(dataset.utterances[split], limit)


def development(dataset: Dataset, limit: int) -> list[Utterance]:
    """Return utterances of a development split of the same data, which is not evaluated on.

    At most `limit`, evenly spread, without those that cannot be used, or whose audio is evaluated
    on in another split; none where there is no such split.
    """
    evaluated = {checking.real_path(u.path) for of in dataset.utterances.values() for u in of}
    reader, source = formats.find(dataset.card.format), dataset.card.source
    for split in reader.splits(source):
        if is_development(split) and split not in dataset.splits:
            items = [
                item
                for item in reader.entries(source, split)
                if isinstance(item, Problem) or checking.real_path(item.audio) not in evaluated
            ]
            items = thinned(items, limit)
            usable, _ = checking.check(
                {split: items}, dataset.card.language, dataset.card.normalizer
            )
            return list(usable[split])
    return []


def of_split(card: Card, split: str, limit: int) -> list[Utterance]:
    """Return at most `limit` utterances of a split, evenly spread, and check only these.

    Raises DataError for all problems at once.
    """
    items = thinned(list(formats.find(card.format).entries(card.source, split)), limit)
    usable, problems = checking.check({split: items}, card.language, card.normalizer)
    if problems:
        raise DataError(f"{card.path}: {checking.describe(problems, len(usable[split]))}")
    return list(usable[split])


def thinned(items: Sequence[T], limit: int | None) -> list[T]:
    """Return at most `limit` items, evenly spread."""
    if limit is None or limit >= len(items):
        return list(items)
    return [items[n * len(items) // limit] for n in range(limit)]


def check_languages(
    dataset: Dataset, checkpoint: Checkpoint, *, detect: bool, languages: Sequence[str] = ()
) -> None:
    """Raise DataError for data in a language that a model does not have, before any work.

    `detect`: the language is to be detected, which takes a multilingual model. `languages` are
    those that a recipe cuts the vocabulary to, if it does.
    """
    from edgewhisper_runtime.bundle import TOKENIZER
    from edgewhisper_runtime.text.tokens import Tokenizer

    tokenizer = Tokenizer(checkpoint.path / TOKENIZER)
    known = languages or tokenizer.languages or ("en",)
    if detect and not tokenizer.multilingual:
        raise DataError(f"{checkpoint.name} only knows English, so it detects no language.")
    if others := {code: count for code, count in dataset.languages.items() if code not in known}:
        named = ", ".join(f"{LANGUAGES[code]} ({count})" for code, count in others.items())
        knows = "does not have that language" if tokenizer.multilingual else "only knows English"
        remedy = "Name a multilingual model, or other data."
        if languages:
            knows = f"keeps only {', '.join(map(LANGUAGES.__getitem__, languages))} by this recipe"
            remedy = "Name another recipe, or other data."
        raise DataError(
            f"{dataset.name} has utterances in {named}, and {checkpoint.name} {knows}. {remedy}"
        )


def _chosen(card: Card, splits: tuple[str, ...], present: Sequence[str]) -> tuple[str, ...]:
    """Return the splits to evaluate on; raise DataError for one that is not there."""
    usual = tuple(split for split in present if is_test(split)) or tuple(present)
    chosen = splits or card.splits or usual
    if not present:
        raise DataError(f"{card.path} has no data of the format {card.format}. Name other data.")
    if unfit := [split for split in present if printable(split) != split]:
        raise DataError(
            f"{card.path} has a split {unfit[0]!r}, with a hidden character. Rename it."
        )
    if absent := [split for split in chosen if split not in present]:
        have = ", ".join(present) or "none"
        hint = suggest(absent[0], present, "Name one of these with --split.")
        raise DataError(f"{card.path} has no split {absent[0]!r}; it has {have}. {hint}")
    return chosen
