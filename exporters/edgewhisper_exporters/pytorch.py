"""A variant's own tensors as one safetensors file, for PyTorch without transformers.

The file is the variant's, and adds the number of heads, which its tensors do not show.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgewhisper_runtime.engines import pytorch_file
from edgewhisper_runtime.engines.pytorch import FILE, PytorchBackend
from edgewhisper_runtime.engines.pytorch_model import HEADS
from edgewhisper_runtime.errors import QuantizationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgewhisper_runtime.decode.loop import Backend

_FRAMES = 200
_TOKENS = ([0, 1, 2, 3], [4], [5, 6])  # a prompt, a step, and several tokens after others


def export(
    weights: Path, heads: Mapping[str, int], variant: Backend, mels: int, directory: Path
) -> None:
    """Write the file of a variant of the pytorch library as an export.

    `heads` are those of "encoder" and "decoder"; `variant` runs the variant on its own engine.
    Raises QuantizationError unless the export computes the same bits.
    """
    tensors, metadata = pytorch_file.read(weights)
    pytorch_file.write(directory / FILE, tensors, metadata | {HEADS: json.dumps(dict(heads))})
    features = np.linspace(-1, 1, mels * _FRAMES, dtype=np.float32).reshape(1, mels, _FRAMES)
    exported_logits, variant_logits = (
        _logits(backend, np.sin(features))
        for backend in (PytorchBackend(directory / FILE), variant)
    )
    if not np.array_equal(exported_logits, variant_logits):
        raise QuantizationError(f"{FILE} does not compute what the variant does.")


def _logits(backend: Backend, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the logits [steps, vocabulary] of a few steps."""
    cache = backend.start(backend.encode(features))
    return np.concatenate([backend.step(np.array([tokens]), cache).copy() for tokens in _TOKENS])
