"""Variants on disk: one safetensors file, shared tensors stored once, every key accounted for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgewhisper_runtime import atomic
from edgewhisper_runtime.errors import BundleError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import WhisperConfig, WhisperForConditionalGeneration

_OUTPUT = "proj_out.weight"
_EMBEDDING = "model.decoder.embed_tokens.weight"


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a state dict; the output layer is left out where it is the token embedding itself."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    if _OUTPUT in tensors and tensors[_OUTPUT].data_ptr() == tensors[_EMBEDDING].data_ptr():
        del tensors[_OUTPUT]
    with atomic.storage_errors(path):
        try:
            save_file(tensors, path, metadata=metadata)
        except SafetensorError as error:  # it wraps the operating system's errors in text
            if "os error 28" in str(error):
                raise OSError(28, "No space left on device", str(path)) from error
            raise


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a safetensors file and its metadata; raise BundleError if damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118 # not a dict
    except (SafetensorError, OSError) as error:
        raise BundleError(f"{path} is not a safetensors file ({error}). Build again.") from error


def skeleton(config: WhisperConfig) -> WhisperForConditionalGeneration:
    """Return the model without storage for its weights (on the meta device).

    Raises BundleError when the configuration describes none.
    """
    import torch
    from transformers import WhisperForConditionalGeneration

    try:
        with torch.device("meta"):
            return WhisperForConditionalGeneration(config).eval()
    except (ValueError, TypeError, RuntimeError, KeyError, AttributeError) as error:
        raise BundleError(f"config.json describes no Whisper model ({error!r}).") from error


def assign(model: WhisperForConditionalGeneration, tensors: dict[str, Tensor], path: Path) -> None:
    """Put tensors into the model's places; raise BundleError unless the keys are the same.

    A file without an output layer ties it to the token embedding.
    """
    tied = _OUTPUT not in tensors and _OUTPUT in model.state_dict()
    expected = model.state_dict().keys() - ({_OUTPUT} if tied else set())
    if missing := sorted(expected - tensors.keys()):
        raise BundleError(f"{path} lacks {missing[0]} ({len(missing)} keys in all). Build again.")
    if surplus := sorted(tensors.keys() - expected):
        raise BundleError(f"{path} holds {surplus[0]}, which the model has no place for.")
    try:
        model.load_state_dict(tensors, strict=False, assign=True)
    except RuntimeError as error:  # of another shape
        raise BundleError(f"{path} does not fit its config.json ({error}).") from error
    if tied:
        model.proj_out.weight = model.model.decoder.embed_tokens.weight
