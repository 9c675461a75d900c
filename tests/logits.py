"""Next-token logits of whisper-tiny.en on real speech, for comparing two models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgewhisper.backend import TorchBackend
from edgewhisper_runtime import audio, features

PROMPT, NEXT = [[50257, 50362]], [[843]]


def first_logits(model: Any, path: Path) -> np.ndarray:
    """Return logits [2, vocabulary] after the prompt and after one token more."""
    backend = TorchBackend(model)
    cache = backend.start(backend.encode(features.log_mel(audio.load(path), 80)[None]))
    return np.concatenate([backend.step(np.array(tokens), cache) for tokens in (PROMPT, NEXT)])
