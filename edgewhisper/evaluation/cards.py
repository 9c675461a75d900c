"""Data cards: a data set named once, in a TOML file, and then used by its name."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from edgewhisper.evaluation import formats
from edgewhisper.evaluation.formats import Source
from edgewhisper.evaluation.formats.huggingface import HUB
from edgewhisper.evaluation.normalizing import NormalizerName
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.bundle import parse
from edgewhisper_runtime.bundle.fields import at_most, matching
from edgewhisper_runtime.errors import DataError, EdgeWhisperError, printable, suggest
from edgewhisper_runtime.text.languages import to_code

_SUFFIX = ".toml"
_log = logging.getLogger(__name__)
_Name = Annotated[str, matching(r"[^\x00-\x1f/\\]{1,128}", "a name without slashes")]


@dataclass(frozen=True)
class Card:
    """Where a data set is, and what it does not say itself.

    `path` is relative to the card's file; "hub:OWNER/NAME" is on the Hugging Face hub. `format` is
    recognized where it is empty. `columns`, `audio` and `configuration` are those of a `Source`.
    `language` is that of utterances that name none. `normalizer` is that of all texts, instead of
    their language's. `splits` are those to evaluate on: those whose names begin with "test" by
    default, or all where there is no such. `synthetic` speech proves nothing about people, so no
    gate judges it.
    """

    path: str
    name: _Name = ""
    format: str = ""
    language: str | None = None
    normalizer: NormalizerName | None = None
    licence: str = ""
    splits: Annotated[tuple[str, ...], at_most(1024)] = ()
    audio: str | None = None
    configuration: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    synthetic: bool = False

    @property
    def source(self) -> Source:
        """What the reader of its format reads."""
        audio = None if self.audio is None else Path(self.audio)
        return Source(Path(self.path), self.columns, audio, self.configuration)


def all_cards(workspace: Workspace) -> list[Card]:
    """Return the cards of the workspace, without those that are malformed, with a warning."""
    cards = []
    for path in sorted(workspace.data.glob(f"*{_SUFFIX}")):
        try:
            cards.append(_read(path))
        except DataError as error:
            _log.warning("%s", error)
    return cards


def find(workspace: Workspace, data: str | Path) -> Card:
    """Return the card of a data set: by name, by the card's path, or made for a path of data.

    Raises DataError where there is nothing of that name, or its format is not recognized.
    """
    if not str(data):
        raise DataError("the name of the data is empty. Name a path or a data card.")
    path = Path(data)
    named = workspace.data / f"{data}{_SUFFIX}"
    if path.suffix == _SUFFIX and path.is_file():
        card = _read(path)
    elif path.exists() or str(data).startswith(HUB):
        name = path.resolve().stem if path.is_file() else path.resolve().name
        card = Card(str(path), printable(name))
    elif len(path.parts) == 1 and named.is_file():
        card = _read(named)
    else:
        cards = {card.name: card for card in all_cards(workspace)}
        if str(data) not in cards:
            raise _unknown(workspace, str(data), tuple(cards))
        card = cards[str(data)]
    if not card.path.startswith(HUB) and not Path(card.path).exists():
        raise DataError(f"{card.path}, the path in the data card {data}, does not exist.")
    if not card.format:
        card = replace(card, format=formats.recognize(card.source.path))
    settings = {"columns": card.columns, "audio": card.audio, "configuration": card.configuration}
    known = formats.find(card.format).SETTINGS
    if idle := [name for name, value in settings.items() if value and name not in known]:
        raise DataError(
            f"the data card {data} has {' and '.join(idle)}, which changes nothing of data of the "
            f"format {card.format}. Leave it out."
        )
    return card


def _unknown(workspace: Workspace, data: str, names: Sequence[str]) -> DataError:
    return DataError(
        f"there is no data {data!r}: neither a path nor the name of a data card in "
        f"{workspace.data} ({', '.join(names) or 'none'}). "
        f"{suggest(data, names, 'Check the path.')}"
    )


def _read(path: Path) -> Card:
    base = path.parent
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        card = parse(Card, {"name": path.stem} | content)
        if not card.path.startswith(HUB):
            card = replace(card, path=str(base / Path(card.path).expanduser()))
        if card.audio is not None:
            card = replace(card, audio=str(base / Path(card.audio).expanduser()))
        return replace(card, language=to_code(card.language or ""))
    except (OSError, ValueError, RuntimeError, EdgeWhisperError) as error:
        raise DataError(f"{path} is not a data card ({error}). See docs/data.md.") from error
