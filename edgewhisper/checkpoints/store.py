"""The local store of checkpoints, and the one way to open a model by name or path."""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewhisper.checkpoints import cards, sources
from edgewhisper.home import home
from edgewhisper_runtime.bundle import Settings, atomic
from edgewhisper_runtime.errors import CheckpointError, NetworkError

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

PROVENANCE = "source.json"
_UNFIT = {
    "missing_keys": "lacks",
    "unexpected_keys": "has no place for",
}
_LONGEST_NAME = 40  # a variant's has the recipe's too, and 128 characters in all
_UNFIT_FOR_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Checkpoint:
    """A local Hugging Face checkpoint whose weights were hashed when it was opened.

    `provenance` says where it came from; `weights` maps each weight file to its SHA-256.
    """

    name: str
    path: Path
    provenance: dict[str, Any]
    weights: dict[str, str]

    @property
    def fingerprint(self) -> str:
        """A SHA-256 over the weight files' hashes."""
        return hashlib.sha256(json.dumps(self.weights, sort_keys=True).encode()).hexdigest()

    def config(self) -> dict[str, Any]:
        """Return config.json."""
        return _json(self.path / "config.json")

    def settings(self) -> Settings:
        """Return what the decoding loop must know of this model."""
        config = self.config()
        generation = _json(self.path / "generation_config.json")
        try:
            return Settings(
                mels=int(config["num_mel_bins"]),
                max_tokens=int(config["max_target_positions"]),
                suppress=tuple(map(int, generation.get("suppress_tokens") or ())),
                suppress_first=tuple(map(int, generation.get("begin_suppress_tokens") or ())),
                alignment_heads=_alignment_heads(config, generation),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{self.path} has an unusable config.json or generation_config.json ({error!r})."
            ) from error

    def load(self) -> WhisperForConditionalGeneration:
        """Return the model in float32; raise CheckpointError unless every weight was there."""
        import torch
        from transformers import WhisperForConditionalGeneration
        from transformers.utils import logging

        logging.disable_progress_bar()
        try:
            model, report = WhisperForConditionalGeneration.from_pretrained(
                self.path,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
        except Exception as error:  # a config can ask transformers for anything
            reason = next(iter(str(error).splitlines()), "")
            raise CheckpointError(
                f"{self.path} could not be loaded ({type(error).__name__}: {reason})."
            ) from error
        # transformers would go on, with random numbers in the place of what is absent.
        for key, what in _UNFIT.items():
            if names := sorted(report[key]):
                raise CheckpointError(
                    f"{self.path} {what} {names[0]} ({len(names)} weights in all): its weights and "
                    "its config.json do not go together. Save it again."
                )
        return model.eval()


def resolve(model: str) -> Checkpoint:
    """Return the checkpoint of a model by name or path, fetching it if it is not here yet.

    Raises CheckpointError for an unknown name or an unusable directory, NetworkError when no
    source can be reached.
    """
    if Path(model).is_dir():
        return open_checkpoint(Path(model))
    return fetch(cards.find_card(model))


def stored(card: cards.ModelCard) -> Path:
    """Return where the model's checkpoint is, or would be, kept."""
    return home() / "checkpoints" / card.name


def fetch(card: cards.ModelCard, directory: Path | None = None) -> Checkpoint:
    """Return the model's checkpoint from the store, or get it from its sources in order.

    With `directory`, take it from there (a Hugging Face checkpoint or CTranslate2 files).
    """
    target = stored(card)
    if target.is_dir() and directory is None:
        return open_checkpoint(target)
    if directory is not None:
        attempts: list[Callable[[Path], dict[str, Any]]] = [
            lambda staging: sources.from_directory(directory, staging)
        ]
    else:
        attempts = [
            lambda staging, source=source: sources.get(card, source, staging)  # type: ignore[misc] # the default binds the loop's value
            for source in card.sources
        ]
    failures: list[str] = []
    for attempt in attempts:
        try:
            with atomic.new_directory(target) as staging:
                provenance = attempt(staging)
                provenance["weights"] = _hash_weights(staging)
                _check_size(card, staging)
                (staging / PROVENANCE).write_text(json.dumps(provenance, indent=1))
            return open_checkpoint(target)
        except NetworkError as error:
            failures.append(str(error))
            print(f"{card.name}: {error}", file=sys.stderr)
    packaged = ", ".join(c.name for c in cards.all_cards() if c.packaged)
    raise NetworkError(
        f"{card.name} could not be fetched: {' '.join(failures)} "
        f"Models that need no hub: {packaged}. "
        f"Or copy a checkpoint here and run `edgewhisper fetch {card.name} --from DIR`."
    )


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a local Hugging Face Whisper checkpoint; its weights are hashed and, if known, checked.

    Raises CheckpointError when files are missing, when it is another kind of model, when its
    weights are pickles, or when they are not those that were fetched.
    """
    config = _json(path / "config.json")
    if config.get("model_type") != "whisper":
        raise CheckpointError(
            f"{path} holds a {config.get('model_type')!r} model, not Whisper. Name another one."
        )
    weights = _hash_weights(path)
    for name in ("generation_config.json", "tokenizer.json"):
        if not (path / name).is_file():
            raise CheckpointError(
                f"{path} lacks {name}. Save it there with transformers' save_pretrained "
                "(of the model's generation_config, or of WhisperTokenizerFast)."
            )
    recorded = path / PROVENANCE
    provenance = _json(recorded) if recorded.is_file() else {"kind": "directory"}
    if provenance.pop("weights", weights) != weights:
        raise CheckpointError(
            f"{path} is not what was fetched: its weights' SHA-256 differs from {PROVENANCE}. "
            "Delete the directory and fetch it again."
        )
    name = _UNFIT_FOR_NAMES.sub("-", path.resolve().name).strip("-._")[:_LONGEST_NAME]
    return Checkpoint(name=name or "whisper", path=path, provenance=provenance, weights=weights)


def _alignment_heads(
    config: dict[str, Any], generation: dict[str, Any]
) -> tuple[tuple[int, int], ...]:
    """Return the heads that say when words are spoken: the upper half's where none are named."""
    if named := generation.get("alignment_heads"):
        return tuple((int(layer), int(head)) for layer, head in named)
    layers, heads = int(config["decoder_layers"]), int(config["decoder_attention_heads"])
    return tuple((layer, head) for layer in range(layers // 2, layers) for head in range(heads))


def _check_size(card: cards.ModelCard, path: Path) -> None:
    """Raise CheckpointError unless the weights in `path` are as many as the card says."""
    from safetensors import SafetensorError, safe_open

    shapes: dict[str, list[int]] = {}
    try:
        for file in path.glob("*.safetensors"):
            with safe_open(file, "numpy") as weights:
                shapes |= {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118 # it is no dict
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"the weights of {card.name} are unreadable ({error}).") from error
    shapes.pop("proj_out.weight", None)  # the token embedding once more
    found = sum(map(math.prod, shapes.values()))
    if found != card.parameters:
        raise CheckpointError(
            f"that is not {card.name}: it has {found:,} parameters, not {card.parameters:,}. "
            "A path is a model too: --model DIR."
        )


def _hash_weights(path: Path) -> dict[str, str]:
    files = sorted(path.glob("*.safetensors"))
    if not files:
        pickled = ", ".join(p.name for p in path.glob("*.bin"))
        found = f"only {pickled}, which could run code when opened" if pickled else "none"
        raise CheckpointError(
            f"{path} has no safetensors weights ({found}). Save the model again with "
            "transformers' save_pretrained, which writes safetensors."
        )
    hashes = {}
    for file in files:
        with file.open("rb") as content:
            hashes[file.name] = hashlib.file_digest(content, "sha256").hexdigest()
    return hashes


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise CheckpointError(f"{path} holds no JSON object. Fetch it again.")
        return found
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing: this is no Whisper checkpoint.") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} could not be read ({error}). Fetch it again.") from error
