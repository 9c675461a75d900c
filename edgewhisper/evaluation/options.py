"""What an evaluation is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgewhisper.evaluation.conditions import CLEAN, Condition
from edgewhisper.evaluation.datasets import Dataset
from edgewhisper_runtime.bundle import AudioContext


@dataclass(frozen=True)
class EvaluationOptions:
    """What to evaluate on, and where.

    `device` is "cpu" or "cuda". `engine` is "local" for this process, or "ray" for the workers of
    a Ray cluster.

    `limit`: at most so many utterances of a split. `threads`: of each process that computes.
    `audio_context`: how much of a window is encoded, what the bundle says where it is None; the
    baseline is always evaluated with what its bundle says. `detect_language`: each utterance is
    decoded in the language that the model detects, instead of its own. Every split is evaluated in
    every one of `conditions`.
    """

    dataset: Dataset
    limit: int | None = None
    device: str = "cpu"
    threads: int | None = None
    engine: Literal["local", "ray"] = "local"
    audio_context: AudioContext | None = None
    detect_language: bool = False
    conditions: tuple[Condition, ...] = (CLEAN,)
