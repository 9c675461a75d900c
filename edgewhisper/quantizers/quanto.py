"""optimum-quanto: weights of Linear layers, dequantized as they are used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewhisper.quantizers.census import WeightFormat
from edgewhisper.quantizers.files import assign, read_tensors, skeleton, write_tensors
from edgewhisper.quantizers.scope import linear_modules
from edgewhisper_runtime.errors import BundleError, RecipeError

if TYPE_CHECKING:
    from torch import nn
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    from edgewhisper.recipes import Recipe

DISTRIBUTIONS = ("optimum-quanto", "torch", "transformers")

_MAP = "quantization_map"
# What quanto 0.2.7 does for each dtype and offers no choice in (nn/qmodule.py): the recipe must
# say the same, so that no report claims another method than the one that ran.
_RULES: dict[str, tuple[str, str, str]] = {
    "int8": ("qint8", "symmetric", "per-channel"),
    "int4": ("qint4", "asymmetric", "per-group"),
    "int2": ("qint2", "asymmetric", "per-group"),
    "float8_e4m3fn": ("qfloat8_e4m3fn", "symmetric", "per-channel"),
    "float8_e5m2": ("qfloat8_e5m2", "symmetric", "per-channel"),
}


def quantize(model: WhisperForConditionalGeneration, recipe: Recipe) -> None:
    """Quantize and freeze the Linear layers in scope.

    Raises RecipeError for another scope, activations, or a method that quanto does not use.
    """
    import torch
    from optimum.quanto import freeze
    from optimum.quanto import quantize as quanto_quantize

    if recipe.scheme != "dynamic" or recipe.activations.dtype != "float32":
        raise RecipeError(f"{recipe.name}: quanto recipes quantize weights only so far.")
    weights = recipe.weights
    if weights.dtype not in _RULES:
        raise RecipeError(f"{recipe.name}: quanto has no weights.dtype {weights.dtype!r}.")
    qtype, method, granularity = _RULES[weights.dtype]
    names = linear_modules(model, recipe)
    group = _group_size(model, names) if granularity == "per-group" else 0
    if (weights.method, weights.granularity, weights.group_size) != (method, granularity, group):
        wanted = f"method = {method!r}, granularity = {granularity!r}"
        wanted += f", group_size = {group}" if group else ""
        raise RecipeError(
            f"{recipe.name}: quanto quantizes {weights.dtype} in one way only; "
            f"set weights: {wanted}."
        )
    if "output" in recipe.scope:
        # quanto empties the parameter it replaces, and this one is the token embedding too.
        model.proj_out.weight = torch.nn.Parameter(model.proj_out.weight.detach().clone())
        model.config.tie_word_embeddings = False
    quanto_quantize(model, weights=qtype, include=names)
    freeze(model)


def save(model: WhisperForConditionalGeneration, path: Path) -> None:
    """Write the packed tensors, with quanto's own map of what is quantized as metadata."""
    from optimum.quanto import quantization_map

    write_tensors(path, model.state_dict(), {_MAP: json.dumps(quantization_map(model))})


def load(path: Path, config: WhisperConfig) -> WhisperForConditionalGeneration:
    """Rebuild the quantized model without any float weights of its Linear layers."""
    from optimum.quanto import QModuleMixin
    from optimum.quanto.quantize import _quantize_submodule

    tensors, metadata = read_tensors(path)
    model = skeleton(config)
    try:
        quantized: dict[str, dict[str, str]] = json.loads(metadata[_MAP])
        for name, kinds in quantized.items():
            if kinds["activations"] != "none":
                raise BundleError(f"{path}: {name} has quantized activations; not supported.")
            _quantize_submodule(model, name, model.get_submodule(name), weights=kinds["weights"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{path} has no usable quantization map ({error!r}).") from error
    for module in model.modules():
        if isinstance(module, QModuleMixin):
            module.freeze()
    assign(model, tensors, path)
    return model


def describe(module: nn.Module) -> WeightFormat | None:
    """Read dtype and granularity off quanto's tensor classes."""
    from optimum.quanto import QTensor

    weight = getattr(module, "weight", None)
    if not isinstance(weight, QTensor):
        return None
    inner = [getattr(weight, name, None) for name in ("_data", "_scale", "_shift")]
    size = sum(_stored_bytes(tensor) for tensor in inner if tensor is not None)
    group = getattr(weight, "_group_size", None)
    granularity = f"per-group {group}" if group else "per-channel"
    return WeightFormat(weight.qtype.name.removeprefix("q"), granularity, size)


def _group_size(model: nn.Module, names: list[str]) -> int:
    """Return the group size that quanto chooses: 128, or less where that does not divide."""
    sizes = set()
    for name in names:
        weight = model.get_parameter(f"{name}.weight")
        size = next((s for s in (128, 96, 64, 32) if weight.shape[1] % s == 0), 0)
        sizes.add(size)
    return max(sizes, default=0)


def _stored_bytes(tensor: Any) -> int:
    packed = getattr(tensor, "_data", tensor)
    return int(packed.numel() * packed.element_size())
