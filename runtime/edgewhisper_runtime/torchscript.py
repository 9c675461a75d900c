"""The TorchScript backend: one file of PyTorch's int8 layers, for devices that have PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgewhisper_runtime.errors import BundleError, EdgeWhisperError, MissingLibraryError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from edgewhisper_runtime.bundle import Manifest

    Tensors = tuple[Tensor, ...]

FILE = "model.pt"
_FUNCTIONS = ("encode", "prompt", "step")


@dataclass
class _Cache:
    """Both attentions' keys and values [batch, heads, positions, width of a head], by layer."""

    cross: Tensors
    past: Tensors | None = None


class TorchScriptBackend:
    """Runs a file exported by EdgeWhisper, on the CPU, with PyTorch alone."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        """Open the file; nothing in it is unpickled by Python.

        Raises BundleError where it is unfit, MissingLibraryError where PyTorch is absent.
        """
        try:
            import torch
        except ImportError as error:
            raise MissingLibraryError(f"{path} needs PyTorch: pip install torch.") from error
        if threads is not None:
            torch.set_num_threads(threads)
        self._torch: Any = torch
        try:
            self._model = self._torch.jit.load(path, map_location="cpu")
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise BundleError(f"PyTorch cannot open {path} ({reason}). Build again.") from error
        if missing := [name for name in _FUNCTIONS if not hasattr(self._model, name)]:
            raise BundleError(f"{path} is not Whisper as EdgeWhisper exports it: no {missing[0]}.")

    def encode(self, features: NDArray[np.float32]) -> Tensors:
        """Encode log-mel features float32 [batch, mels, frames] of any even number of frames.

        Returns each decoder layer's keys and values of the audio.
        """
        torch = self._torch
        with torch.inference_mode():
            encoded: Tensors = self._model.encode(torch.from_numpy(features))
        return encoded

    def start(self, encoded: Tensors) -> _Cache:
        """Return an empty cache over the encoder's output."""
        return _Cache(encoded)

    def step(self, tokens: NDArray[np.int64], cache: _Cache) -> NDArray[np.float32]:
        """Append tokens [batch, n]; return logits [batch, vocabulary] after the last."""
        torch = self._torch
        with torch.inference_mode():
            if cache.past is None:
                given = torch.from_numpy(tokens)
                logits, cache.past = self._model.prompt(given, cache.cross)
            else:
                for column in tokens.T:
                    given = torch.from_numpy(column[:, None])
                    logits, cache.past = self._model.step(given, cache.cross, cache.past)
        found: NDArray[np.float32] = logits.numpy()
        return found

    def reorder(self, cache: _Cache, rows: NDArray[np.int64]) -> _Cache:
        """Select batch rows of the encoder's output and of the cache."""
        index = self._torch.from_numpy(rows)

        def selected(tensors: Tensors) -> Tensors:
            return tuple(tensor.index_select(0, index) for tensor in tensors)

        return _Cache(selected(cache.cross), cache.past and selected(cache.past))


def load(
    directory: Path, manifest: Manifest, device: str, threads: int | None
) -> TorchScriptBackend:
    """Load a verified bundle's file; called for bundles whose backend is "torchscript"."""
    if device != "cpu":
        raise EdgeWhisperError(
            f"{manifest.name} holds int8 layers for the CPU; it does not run on {device!r}. "
            "Use --device cpu."
        )
    if FILE not in manifest.files:
        raise BundleError(f"{directory} lacks {FILE}. Build again.")
    return TorchScriptBackend(directory / FILE, threads)
