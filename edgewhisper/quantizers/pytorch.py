"""PyTorch itself: the float types, int8 Linear layers (dynamic or calibrated), int8 embeddings.

Dynamic int8 quantizes the activations of a whole batch with one scale, so a text depends on the
other utterances of its batch: evaluate at batch size 1.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewhisper.quantizers.census import WeightFormat
from edgewhisper.quantizers.files import read_model, write_model
from edgewhisper.quantizers.scope import part_of, untie
from edgewhisper.recipes.schema import Activations, Weights
from edgewhisper_runtime.engines.pytorch_layers import (
    DynamicLinear,
    Embedding,
    Quantized,
    StaticLinear,
    build,
    without_deprecation,
)
from edgewhisper_runtime.errors import RecipeError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    from edgewhisper.recipes import Recipe
    from edgewhisper_exporters.layers import Grid

DISTRIBUTIONS = ("torch", "transformers")
CPU_ONLY = {"int8": "PyTorch has no int8 product of this kind for other devices"}

_PER_TENSOR = Weights("int8", "symmetric", "per-tensor")
_PER_CHANNEL = Weights("int8", "symmetric", "per-channel")
_EMBEDDING = Weights("int8", "asymmetric", "per-channel")
_ACTIVATIONS = {
    "dynamic": (Activations("uint8", "per-tensor"), Activations("uint7", "per-tensor")),
    "static": (Activations("uint8", "per-tensor"),),
}


def quantize(
    model: WhisperForConditionalGeneration, recipe: Recipe, calibrate: Callable[[], None]
) -> None:
    """Cast the model, or replace the layers in scope by int8 ones.

    Raises RecipeError for what PyTorch does not have.
    """
    import torch

    if not recipe.quantizes:
        if recipe.activations.dtype != recipe.weights.dtype:
            raise RecipeError(
                f"{recipe.name}: a model in {recipe.weights.dtype} has activations in it too; set "
                f"activations.dtype = {recipe.weights.dtype!r}."
            )
        model.to(getattr(torch, recipe.weights.dtype))
        return
    _check(recipe)
    untie(model, recipe)
    names = {
        name: recipe.weights_of(str(part))
        for name, _ in model.named_modules()
        if (part := part_of(name)) in recipe.scope
    }
    with without_deprecation():
        inputs: dict[str, tuple[Tensor, Tensor]] = {}
        if recipe.scheme == "static":
            linear = [name for name, weights in names.items() if weights == _PER_CHANNEL]
            inputs = _input_ranges(model, linear, calibrate)
        for name, weights in names.items():
            module: Any = model.get_submodule(name)
            weight = _quantized(module.weight, weights)
            layer: nn.Module
            if weights == _EMBEDDING:
                layer = Embedding(weight)
            elif name in inputs:
                layer = StaticLinear(weight, module.bias, *inputs[name])
            else:
                layer = DynamicLinear(weight, module.bias, recipe.activations.dtype)
            model.set_submodule(name, layer)


def save(model: WhisperForConditionalGeneration, path: Path) -> None:
    """Write plain tensors, and the integers, scales and biases of quantized layers."""
    quantized = {
        name: module.stored()
        for name, module in model.named_modules()
        if isinstance(module, Quantized)
    }
    write_model(path, model, quantized)


def load(path: Path, config: WhisperConfig) -> WhisperForConditionalGeneration:
    """Build the model from the file, its quantized layers from their integers.

    Raises MissingLibraryError on an x86 processor that cannot multiply 8 bits by 8 exactly.
    """
    return read_model(path, config, build)


def describe(module: nn.Module) -> WeightFormat | None:
    """Read the format from the tensors that a file holds of a layer."""
    if not isinstance(module, Quantized):
        return None
    tensors = module.stored().tensors
    weight = [tensors[name] for name in ("int8", "scale", "zero") if name in tensors]
    stored = _PER_CHANNEL if tensors["scale"].ndim else _PER_TENSOR
    return WeightFormat("int8", stored.grain, sum(tensor.nbytes for tensor in weight))


def grid(module: nn.Module) -> Grid | None:  # noqa: ARG001 # as every adapter has it
    """Return None: only PyTorch's own operators multiply these weights."""
    return None


def _check(recipe: Recipe) -> None:
    for part in recipe.scope:
        allowed = [_EMBEDDING] if part == "embedding" else [_PER_CHANNEL]
        if part != "embedding" and recipe.scheme == "dynamic":
            allowed.append(_PER_TENSOR)
        if part == "convolution" or recipe.weights_of(part) not in allowed:
            raise RecipeError(
                f"{recipe.name}: pytorch quantizes Linear layers to weights.dtype = 'int8', method "
                "= 'symmetric', granularity = 'per-channel' (or 'per-tensor' with scheme = "
                "'dynamic'), the embedding to 'int8', 'asymmetric', 'per-channel' (set an override "
                f"for it), and nothing else; {part} is in scope."
            )
    if recipe.activations not in _ACTIVATIONS.get(recipe.scheme, ()):
        raise RecipeError(
            f"{recipe.name}: pytorch needs activations.dtype = 'uint8' (or 'uint7' with scheme = "
            "'dynamic'), activations.granularity = 'per-tensor'."
        )


def _quantized(weight: Tensor, weights: Weights) -> Tensor:
    """Round a weight [outputs, inputs] as PyTorch's own quantized layers do: same observers."""
    import torch
    from torch.ao import quantization

    observer = {
        _PER_TENSOR: quantization.default_weight_observer,
        _PER_CHANNEL: quantization.default_per_channel_weight_observer,
        _EMBEDDING: quantization.default_float_qparams_observer,
    }[weights]()
    weight = weight.detach().float()
    observer(weight)
    scale, zero = observer.calculate_qparams()
    if weights == _PER_TENSOR:
        return torch.quantize_per_tensor(weight, float(scale), int(zero), torch.qint8)
    if weights == _EMBEDDING:
        return torch.quantize_per_channel(weight, scale, zero, 0, torch.quint8)
    return torch.quantize_per_channel(weight, scale.double(), zero, 0, torch.qint8)


def _input_ranges(
    model: nn.Module, names: list[str], calibrate: Callable[[], None]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return scale and zero point of each layer's inputs, measured on calibration data."""
    import torch
    from torch.ao import quantization

    observers = {name: quantization.HistogramObserver(dtype=torch.quint8) for name in names}
    of_module = {model.get_submodule(name): observer for name, observer in observers.items()}

    def observe(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        of_module[module](inputs[0])

    hooks = [module.register_forward_pre_hook(observe) for module in of_module]
    calibrate()
    for hook in hooks:
        hook.remove()
    return {name: observer.calculate_qparams() for name, observer in observers.items()}
