"""Variants on disk: one safetensors file, as the runtime's PyTorch engine reads it too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewhisper_runtime.engines import pytorch_file
from edgewhisper_runtime.engines.pytorch_file import Build, Layer
from edgewhisper_runtime.errors import BundleError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import WhisperConfig, WhisperForConditionalGeneration


def write_model(
    path: Path, model: WhisperForConditionalGeneration, layers: dict[str, Layer]
) -> None:
    """Write a model: the quantized `layers` by module name, and all other tensors as they are."""
    prefixes = tuple(f"{name}." for name in layers)
    tensors = {
        key: value
        for key, value in model.state_dict().items()
        if not (prefixes and key.startswith(prefixes))
    }
    for name, layer in layers.items():
        tensors |= {f"{name}.{key}": tensor for key, tensor in layer.tensors.items()}
    specs = {name: layer.spec for name, layer in layers.items()}
    pytorch_file.write(path, tensors, {pytorch_file.LAYERS: json.dumps(specs)})


def read_model(path: Path, config: WhisperConfig, build: Build) -> WhisperForConditionalGeneration:
    """Return the model of a file that `write_model` wrote, without float copies of its weights.

    Raises BundleError when a key is missing, left over, or does not fit.
    """
    model = skeleton(config)
    pytorch_file.fill(model, *pytorch_file.read(path), build, path)
    return model


def bias_of(module: nn.Module) -> dict[str, Tensor]:
    """Return a layer's bias as a file holds it, if it has one."""
    bias: Any = getattr(module, "bias", None)
    return {} if bias is None else {"bias": bias.detach()}


def skeleton(config: WhisperConfig) -> WhisperForConditionalGeneration:
    """Return the model without storage for its weights (on the meta device).

    Raises BundleError when the configuration describes no Whisper model.
    """
    import torch
    from transformers import WhisperForConditionalGeneration

    try:
        with torch.device("meta"):
            return WhisperForConditionalGeneration(config).eval()
    except (ValueError, TypeError, RuntimeError, KeyError, AttributeError) as error:
        raise BundleError(f"config.json describes no Whisper model ({error!r}).") from error
