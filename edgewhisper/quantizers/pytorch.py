"""PyTorch itself: the float32 baseline, and dynamic int8 Linear layers.

Dynamic int8 quantizes activations per tensor as they come, so texts depend on what shares a batch:
evaluate at batch 1.
"""

from __future__ import annotations

import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewhisper.quantizers.census import WeightFormat
from edgewhisper.quantizers.files import assign, read_tensors, skeleton, write_tensors
from edgewhisper.quantizers.scope import linear_modules
from edgewhisper_runtime import machine
from edgewhisper_runtime.errors import BundleError, MissingLibraryError, RecipeError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    from edgewhisper.recipes import Recipe

DISTRIBUTIONS = ("torch", "transformers")

_ACTIVATIONS = "activations"
_INTEGERS, _SCALE = ".weight_int8", ".weight_scale"
# torch's dynamic Linear takes 7 bits for activations from this module version on (reduce_range).
_SEVEN_BITS, _EIGHT_BITS = 4, 3


def quantize(model: WhisperForConditionalGeneration, recipe: Recipe) -> None:
    """Replace the Linear layers in scope by torch's dynamic int8 ones.

    Raises RecipeError for anything but symmetric int8 weights with uint8 or uint7 activations.
    """
    from torch.ao import quantization

    if not recipe.quantizes:
        return
    weights, activations = recipe.weights, recipe.activations.dtype
    kinds = {
        "per-tensor": quantization.default_dynamic_qconfig,
        "per-channel": quantization.per_channel_dynamic_qconfig,
    }
    if (
        recipe.scheme != "dynamic"
        or (weights.dtype, weights.method) != ("int8", "symmetric")
        or weights.granularity not in kinds
        or activations not in {"uint8", "uint7"}
    ):
        raise RecipeError(
            f"{recipe.name}: pytorch quantizes dynamically to weights.dtype = 'int8', method = "
            "'symmetric', granularity = 'per-tensor' or 'per-channel', activations.dtype = "
            "'uint8' or 'uint7'."
        )
    names = linear_modules(model, recipe)
    with _deprecated():
        quantization.quantize_dynamic(
            model, dict.fromkeys(names, kinds[weights.granularity]), inplace=True
        )
    for module in model.modules():
        if _is_dynamic(module):
            _set_bits(module, activations)


def save(model: WhisperForConditionalGeneration, path: Path) -> None:
    """Write plain tensors; of a quantized layer its integers, its scales and its bias."""
    quantized: dict[str, Any] = {n: m for n, m in model.named_modules() if _is_dynamic(m)}
    prefixes = tuple(f"{name}." for name in quantized)
    tensors: dict[str, Tensor] = {
        key: value for key, value in model.state_dict().items() if not key.startswith(prefixes)
    }
    metadata = {}
    for name, module in quantized.items():
        weight: Any = module.weight()
        tensors[name + _INTEGERS] = weight.int_repr()
        tensors[name + _SCALE] = _scales(weight)
        if module.bias() is not None:
            tensors[f"{name}.bias"] = module.bias().detach()
        metadata[_ACTIVATIONS] = "uint7" if module.version >= _SEVEN_BITS else "uint8"
    write_tensors(path, tensors, metadata)


def load(path: Path, config: WhisperConfig) -> WhisperForConditionalGeneration:
    """Build the model from the file, its quantized layers from their integers.

    Raises MissingLibraryError on an x86 processor that cannot multiply 8 bits by 8 exactly.
    """
    import torch
    from torch.ao.nn.quantized.dynamic import Linear

    tensors, metadata = read_tensors(path)
    model = skeleton(config)
    names = [key.removesuffix(_INTEGERS) for key in tensors if key.endswith(_INTEGERS)]
    if names:
        _check_processor(metadata.get(_ACTIVATIONS, ""))
    quantized = {}
    try:
        for name in names:
            integers, scale = tensors.pop(name + _INTEGERS), tensors.pop(name + _SCALE)
            bias = tensors.pop(f"{name}.bias", None)
            if integers.shape != model.get_submodule(name).weight.shape:
                raise BundleError(f"{path}: {name} has the shape {tuple(integers.shape)}.")
            with _deprecated():
                module = Linear(integers.shape[1], integers.shape[0], bias is not None)
                module.set_weight_bias(_with_scales(integers, scale), bias)
            _set_bits(module, metadata[_ACTIVATIONS])
            quantized[name] = module
            model.set_submodule(name, torch.nn.Identity())
    except (KeyError, AttributeError, TypeError, RuntimeError) as error:
        raise BundleError(f"{path} has unusable int8 layers ({error!r}). Build again.") from error
    assign(model, tensors, path)
    for name, module in quantized.items():
        model.set_submodule(name, module)
    return model


def describe(module: nn.Module) -> WeightFormat | None:
    """Read the scheme off torch's own quantized tensor."""
    if not _is_dynamic(module):
        return None
    weight: Any = module.weight  # a method of torch's quantized layers
    weight = weight()
    scale = _scales(weight)
    granularity = "per-channel" if scale.ndim else "per-tensor"
    size = weight.numel() + scale.numel() * scale.element_size()
    return WeightFormat("int8", granularity, size)


@contextmanager
def _deprecated() -> Iterator[None]:
    """Silence the warnings of an interface that is deprecated, and still PyTorch's fastest int8."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _is_dynamic(module: Any) -> bool:
    from torch.ao.nn.quantized.dynamic import Linear

    return isinstance(module, Linear)


def _set_bits(module: Any, activations: str) -> None:
    module.version = {"uint7": _SEVEN_BITS, "uint8": _EIGHT_BITS}[activations]


def _scales(weight: Any) -> Tensor:
    """Return the scales float64, [] per tensor or [channels] per channel."""
    import torch

    if weight.qscheme() == torch.per_tensor_affine:
        return torch.tensor(weight.q_scale(), dtype=torch.float64)
    scales: Tensor = weight.q_per_channel_scales()
    return scales


def _with_scales(integers: Tensor, scale: Tensor) -> Tensor:
    """Return torch's symmetric quantized tensor of exactly these integers and scales."""
    import torch

    if scale.ndim == 0:
        return torch._make_per_tensor_quantized_tensor(integers, scale.item(), 0)  # noqa: SLF001 # the only way that rounds nothing
    zeros = torch.zeros(scale.shape, dtype=torch.int64)
    return torch._make_per_channel_quantized_tensor(integers, scale, zeros, 0)  # noqa: SLF001 # see above


def _check_processor(activations: str) -> None:
    """Refuse 8-bit activations where the kernels add pairs of products in 16 bits."""
    isa = machine.describe()["isa"]
    x86 = platform.machine().lower() in {"x86_64", "amd64"}
    if activations == "uint8" and x86 and not any("vnni" in flag for flag in isa):
        raise MissingLibraryError(
            "this variant has 8-bit activations, whose products overflow on an x86 processor "
            "without VNNI. Build it from a recipe with activations.dtype = 'uint7'."
        )
