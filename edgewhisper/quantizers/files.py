"""Variants on disk: one safetensors file, shared tensors stored once, every key accounted for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewhisper_runtime.bundle import atomic
from edgewhisper_runtime.errors import BundleError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import WhisperConfig, WhisperForConditionalGeneration

_OUTPUT = "proj_out.weight"
_EMBEDDING = "model.decoder.embed_tokens.weight"
_LAYERS = "layers"
# What building a layer raises when the file says something that cannot be.
UNFIT = (
    LookupError, ArithmeticError, ValueError, TypeError, AttributeError, RuntimeError,
    AssertionError,
)  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """A quantized layer as it lies in a file: its tensors, and what else it takes to build it."""

    tensors: dict[str, Tensor]
    spec: dict[str, Any]


# (the float layer, on the meta device; what the file holds of it; layers built before it, by name)
Build = Callable[["nn.Module", Layer, "dict[str, nn.Module]"], "nn.Module"]


def write_model(
    path: Path, model: WhisperForConditionalGeneration, layers: dict[str, Layer]
) -> None:
    """Write a model of which `layers`, by module name, are quantized, the rest plain tensors."""
    prefixes = tuple(f"{name}." for name in layers)
    tensors = {
        key: value
        for key, value in model.state_dict().items()
        if not (prefixes and key.startswith(prefixes))
    }
    for name, layer in layers.items():
        tensors |= {f"{name}.{key}": tensor for key, tensor in layer.tensors.items()}
    specs = {name: layer.spec for name, layer in layers.items()}
    write_tensors(path, tensors, {_LAYERS: json.dumps(specs)})


def read_model(path: Path, config: WhisperConfig, build: Build) -> WhisperForConditionalGeneration:
    """Return the model of a file that `write_model` wrote, without float weights of its layers.

    Raises BundleError when a key is missing, left over, or does not fit.
    """
    import torch

    tensors, metadata = read_tensors(path)
    model = skeleton(config)
    built: dict[str, nn.Module] = {}
    try:
        specs: dict[str, dict[str, Any]] = json.loads(metadata[_LAYERS])
        for name, spec in specs.items():
            keys = [key for key in tensors if key.startswith(f"{name}.")]
            stored = {key.removeprefix(f"{name}."): tensors.pop(key) for key in keys}
            built[name] = build(model.get_submodule(name), Layer(stored, spec), built)
            if stored:
                raise BundleError(f"{path} holds {name}.{min(stored)}, which has no place.")
            model.set_submodule(name, torch.nn.Identity())
    except UNFIT as error:
        raise BundleError(f"{path} has unusable layers ({error!r}). Build again.") from error
    assign(model, tensors, path)
    for name, module in built.items():
        model.set_submodule(name, module)
    return model


def take(layer: Layer, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Take a tensor out of a layer; raise ValueError unless it has this shape and dtype."""
    tensor = layer.tensors.pop(name)
    if (tuple(tensor.shape), tensor.dtype) != (tuple(shape), dtype):
        raise ValueError(
            f"{name} is {tensor.dtype} {list(tensor.shape)}, not {dtype} {list(shape)}"
        )
    return tensor


def take_bias(layer: Layer, module: nn.Module) -> Tensor | None:
    """Take the bias that the float layer has, or None; raise ValueError when it does not fit."""
    import torch

    bias: Tensor | None = getattr(module, "bias", None)
    return None if bias is None else take(layer, "bias", tuple(bias.shape), torch.float32)


def bias_of(module: nn.Module) -> dict[str, Tensor]:
    """Return a layer's bias as a file holds it, if it has one."""
    bias: Any = getattr(module, "bias", None)
    return {} if bias is None else {"bias": bias.detach()}


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a state dict; the output layer is left out where it is the token embedding itself."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    if {_OUTPUT, _EMBEDDING} <= tensors.keys() and (
        tensors[_OUTPUT].data_ptr() == tensors[_EMBEDDING].data_ptr()
    ):
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
    keys = model.state_dict().keys()
    tied = _OUTPUT not in tensors and {_OUTPUT, _EMBEDDING} <= keys
    expected = keys - ({_OUTPUT} if tied else set())
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
