"""A Whisper model in one safetensors file: tensors by the names of Hugging Face's modules.

The metadata entry `layers` names the quantized layers and how each of them is stored. The output
layer is left out where it is the token embedding itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from edgewhisper_runtime.bundle import atomic
from edgewhisper_runtime.errors import BundleError

LAYERS = "layers"
_OUTPUT, _EMBEDDING = "proj_out.weight", "model.decoder.embed_tokens.weight"
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
Build = Callable[[nn.Module, Layer, dict[str, nn.Module]], nn.Module]


def write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a state dict; the output layer is left out where it is the token embedding itself."""
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


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return a file's tensors, mapped into memory, and its metadata; raise BundleError."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118 # not a dict
    except (SafetensorError, OSError, *UNFIT) as error:
        raise BundleError(f"{path} is not a safetensors file ({error}). Build again.") from error


def fill(
    model: nn.Module,
    tensors: dict[str, Tensor],
    metadata: dict[str, str],
    build: Build,
    path: Path,
) -> None:
    """Give a model on the meta device what a file holds, its quantized layers by `build`.

    Raises BundleError when a key is missing, left over, or does not fit.
    """
    tensors = dict(tensors)
    built: dict[str, nn.Module] = {}
    try:
        specs: dict[str, dict[str, Any]] = json.loads(metadata[LAYERS])
        for name, spec in specs.items():
            keys = [key for key in tensors if key.startswith(f"{name}.")]
            layer = Layer({key.removeprefix(f"{name}."): tensors.pop(key) for key in keys}, spec)
            built[name] = build(model.get_submodule(name), layer, built)
            if layer.tensors:
                raise ValueError(f"{name} has no place for {min(layer.tensors)[:80]}")
            model.set_submodule(name, nn.Identity())
    except UNFIT as error:
        raise BundleError(f"{path} has unusable layers ({error!r}). Build again.") from error
    assign(model, tensors, path)
    for name, module in built.items():
        model.set_submodule(name, module)


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
    bias: Tensor | None = getattr(module, "bias", None)
    return None if bias is None else take(layer, "bias", tuple(bias.shape), torch.float32)


def assign(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Put copies of tensors into the model's places.

    A file without an output layer ties it to the token embedding. Raises BundleError unless keys
    and shapes are the model's.
    """
    expected = model.state_dict()
    tied = _OUTPUT not in tensors and {_OUTPUT, _EMBEDDING} <= expected.keys()
    if tied:
        del expected[_OUTPUT]
    if missing := sorted(expected.keys() - tensors.keys()):
        raise BundleError(f"{path} lacks {missing[0]} ({len(missing)} keys in all). Build again.")
    if surplus := sorted(tensors.keys() - expected.keys()):
        raise BundleError(f"{path} holds {surplus[0][:80]!r}, which the model has no place for.")
    # Copies, because float products differ in their last bits with where a weight lies in memory.
    copies = {name: tensor.clone() for name, tensor in tensors.items()}
    try:
        model.load_state_dict(copies, strict=False, assign=True)
    except RuntimeError as error:  # one line for each tensor that does not fit
        reason = str(error).splitlines()[-1].strip()
        raise BundleError(f"{path} does not make a model: {reason} Build again.") from error
    if tied:
        output: Any = model.get_submodule("proj_out")
        output.weight = model.get_parameter(_EMBEDDING)
