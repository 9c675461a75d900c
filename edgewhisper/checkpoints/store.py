"""The local store of checkpoints, and the one way to open a model by name or path."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewhisper.checkpoints import cards, files, sources
from edgewhisper.checkpoints.architecture import CONFIG, Architecture, read_json
from edgewhisper.checkpoints.architecture import read as read_architecture
from edgewhisper.staging import alone, new_directory
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.bundle import TOKENIZER, Settings
from edgewhisper_runtime.errors import CheckpointError, NetworkError

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

_log = logging.getLogger(__name__)
PROVENANCE = "source.json"
_UNFIT = {
    "missing_keys": "lacks",
    "unexpected_keys": "has no place for",
}
_LONGEST_NAME = 31  # 40 with a digest: a variant's name adds the recipe's, and may have 128
_UNFIT_FOR_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Checkpoint:
    """A local Hugging Face checkpoint, and the hashes of its weights when it was opened.

    `provenance` is its source; `weights` maps each weight file to its SHA-256; `architecture` is
    read from its other files.
    """

    name: str
    path: Path
    provenance: dict[str, Any]
    weights: dict[str, str]
    architecture: Architecture

    def config(self) -> dict[str, Any]:
        """Return config.json."""
        return read_json(self.path / CONFIG)

    def settings(self) -> Settings:
        """Return the model's settings for the decoding loop."""
        return Settings(
            mels=self.architecture.mels,
            max_tokens=self.architecture.target_positions,
            suppress=self.architecture.suppress,
            suppress_first=self.architecture.suppress_first,
            alignment_heads=self.architecture.alignment_heads,
        )

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
        # transformers would go on with random numbers for the missing weights.
        for key, what in _UNFIT.items():
            if names := sorted(report[key]):
                raise CheckpointError(
                    f"{self.path} {what} {names[0]} ({len(names)} weights in all): its weights and "
                    "its config.json do not go together. Save it again."
                )
        return model.eval()


def resolve(workspace: Workspace, model: str) -> Checkpoint:
    """Return the checkpoint of a model by name or path, fetching it if it is not here yet.

    Raises CheckpointError for an unknown name or an unusable directory, NetworkError when no
    source can be reached.
    """
    if Path(model).is_dir():
        return open_checkpoint(workspace, Path(model))
    return fetch(workspace, cards.find_card(model))


def stored(workspace: Workspace, card: cards.ModelCard) -> Path:
    """Return the path of the model's checkpoint in the store, whether it exists or not."""
    return workspace.checkpoints / card.name


def fetch(workspace: Workspace, card: cards.ModelCard, directory: Path | None = None) -> Checkpoint:
    """Return the model's checkpoint from the store, or get it from its sources in order.

    With `directory`, take it from there (a Hugging Face checkpoint or CTranslate2 files).
    """
    target = stored(workspace, card)
    if directory is not None or not target.is_dir():
        # what is downloaded is in use too: pruning leaves it
        with alone(target), alone(workspace.downloads / card.name):
            if directory is not None or not target.is_dir():
                _get(workspace, card, directory, target)
    return open_checkpoint(workspace, target)


def _get(workspace: Workspace, card: cards.ModelCard, directory: Path | None, target: Path) -> None:
    attempts: list[Callable[[Path], dict[str, Any]]] = (
        [partial(sources.get, workspace, card, source) for source in card.sources]
        if directory is None
        else [partial(sources.from_directory, directory)]
    )
    failures: list[str] = []
    for number, attempt in enumerate(attempts, 1):
        try:
            with new_directory(target) as staging:
                provenance = attempt(staging)
                provenance["weights"] = files.hash_weights(staging, workspace.hashes)
                _check_size(card, staging)
                (staging / PROVENANCE).write_text(json.dumps(provenance, indent=1))
            workspace.hashes.remember(target, provenance["weights"])
            return
        except NetworkError as error:
            failures.append(str(error))
            if number < len(attempts):
                _log.warning("%s: %s", card.name, error)
    packaged = " and ".join(c.name for c in cards.all_cards() if c.packaged)
    raise NetworkError(
        f"{card.name} could not be fetched: {' '.join(failures)} {packaged} need no hub "
        f"(--model NAME), or copy a checkpoint here: `edgewhisper fetch {card.name} --from DIR`."
    )


def open_checkpoint(workspace: Workspace, path: Path) -> Checkpoint:
    """Open a local Hugging Face Whisper checkpoint; its weights are hashed and, if known, checked.

    Raises CheckpointError when files are missing, when the model is no Whisper or not supported,
    when its weights are pickles, or when they are not those that were fetched.
    """
    files.refuse_adapter(path)
    architecture = read_architecture(path)
    weights = files.hash_weights(path, workspace.hashes)
    recorded = path / PROVENANCE
    provenance = read_json(recorded) if recorded.is_file() else {"kind": "directory"}
    if provenance.pop("weights", weights) != weights:
        raise CheckpointError(
            f"{path} is not what was fetched: its weights' SHA-256 differs from {PROVENANCE}. "
            "Delete the directory and fetch it again."
        )
    tokenizer = workspace.hashes.describe(path / TOKENIZER)
    name = _name(workspace, path, [weights, asdict(architecture), tokenizer.sha256])
    return Checkpoint(name, path, provenance, weights, architecture)


def _name(workspace: Workspace, path: Path, content: list[Any]) -> str:
    """Return the name of a checkpoint, and of everything that is made from it.

    In the store this is the card's name. Elsewhere it is the directory's name and a digest of its
    content: many training runs have a checkpoint-1000.
    """
    path = path.resolve()
    if path.parent == workspace.checkpoints.resolve():
        return path.name
    plain = _UNFIT_FOR_NAMES.sub("-", path.name).strip("-._")[:_LONGEST_NAME].rstrip("-._")
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return f"{plain or 'whisper'}-{digest[:8]}"


def _check_size(card: cards.ModelCard, path: Path) -> None:
    """Raise CheckpointError unless `path` has as many parameters as the card says."""
    from safetensors import SafetensorError, safe_open

    shapes: dict[str, list[int]] = {}
    try:
        for file in files.weights(path):
            with safe_open(file, "numpy") as weights:
                shapes |= {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118 # it is no dict
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"the weights of {card.name} are unreadable ({error}).") from error
    shapes.pop("proj_out.weight", None)  # the token embedding once more
    parameters = sum(map(math.prod, shapes.values()))
    if parameters != card.parameters:
        raise CheckpointError(
            f"that is not {card.name}: it has {parameters:,} parameters, not {card.parameters:,}. "
            "A path is a model too: --model DIR."
        )
