"""Next-token logits of whisper-tiny.en on real speech, for comparing two models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgewhisper.backend import TorchBackend
from edgewhisper_runtime import audio
from edgewhisper_runtime.audio import features
from edgewhisper_runtime.decode.loop import Backend

PROMPT, NEXT = [[50257, 50362]], [[843]]
SECONDS = 5  # of the recording: enough to be speech, and quick


def first_logits(model: Any, path: Path) -> np.ndarray:
    """Return logits [2, vocabulary] after the prompt and after one token more."""
    return logits_of(TorchBackend(model), path)


def logits_of(backend: Backend, path: Path) -> np.ndarray:
    """Return the same of a backend."""
    clip = audio.load(path)[: SECONDS * audio.SAMPLE_RATE]
    mels = features.log_mel(clip, 80, SECONDS * features.FRAMES_PER_SECOND)
    cache = backend.start(backend.encode(mels[None]))
    steps = [backend.step(np.array(tokens), cache).copy() for tokens in (PROMPT, NEXT)]
    return np.concatenate(steps)
