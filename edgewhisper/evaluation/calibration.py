"""The speech for measuring activations: never a test set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgewhisper.evaluation import datasets, librispeech
from edgewhisper.evaluation.datasets import Utterance
from edgewhisper.progress import Progress, ignore
from edgewhisper_runtime.bundle import CalibrationRecord
from edgewhisper_runtime.errors import DataError

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

    from edgewhisper.checkpoints import Checkpoint
    from edgewhisper.hashes import HashCache
    from edgewhisper.recipes import Recipe


def utterances(recipe: Recipe, root: Path | None) -> list[Utterance]:
    """Return the utterances that a recipe calibrates on, evenly spread over its split.

    None for a recipe that does not calibrate. Raises DataError when the split is not under root.
    """
    data = recipe.calibration
    if data.split == "none":
        return []
    if root is None or not (root / data.split).is_dir():
        raise DataError(
            f"{recipe.name} calibrates on {data.split}, which is not beside the evaluation data. "
            f"Run `edgewhisper data librispeech --split {data.split}`, or name a directory that "
            "has it with --librispeech."
        )
    return datasets.of_split(librispeech.card(root), data.split, data.utterances)


def describe(utterances: list[Utterance], hashes: HashCache) -> CalibrationRecord | None:
    """Return what a manifest keeps of the calibration data: ids, and a SHA-256 of all audio."""
    if not utterances:
        return None
    return CalibrationRecord(
        tuple(utterance.id for utterance in utterances),
        hashes.digest([utterance.path for utterance in utterances]),
    )


def run(
    model: WhisperForConditionalGeneration,
    checkpoint: Checkpoint,
    speech: list[Utterance],
    progress: Progress = ignore,
) -> None:
    """Transcribe the utterances with a model, with the decoding loop of evaluations.

    Each window is encoded at its own length, so that the model reads speech rather than silence.
    """
    from edgewhisper.backend import TorchBackend
    from edgewhisper_runtime.bundle import TOKENIZER
    from edgewhisper_runtime.options import PLAIN
    from edgewhisper_runtime.text.tokens import Tokenizer
    from edgewhisper_runtime.transcriber import Transcriber

    transcriber = Transcriber(
        TorchBackend(model),
        Tokenizer(checkpoint.path / TOKENIZER),
        checkpoint.settings(),
        adaptive=True,
    )
    for done, utterance in enumerate(speech, 1):
        transcriber.transcribe(utterance.path, replace(PLAIN, language="en"))
        progress("calibrating", done, len(speech))
