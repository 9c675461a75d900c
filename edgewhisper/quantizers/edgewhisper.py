"""EdgeWhisper's own library: int8 rows or int4 groups, one tensor for embedding and output layer.

Every value is (code - zero) * scale: a grid that ONNX's integer operators hold exactly.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewhisper.quantizers import layers
from edgewhisper.quantizers.census import WeightFormat
from edgewhisper.quantizers.files import bias_of, read_model, write_model
from edgewhisper.quantizers.scope import part_of
from edgewhisper.recipes.schema import Activations, Weights
from edgewhisper_exporters.layers import Grid
from edgewhisper_runtime.engines.pytorch_file import Layer, take, take_bias
from edgewhisper_runtime.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    from edgewhisper.recipes import Recipe

DISTRIBUTIONS = ("edgewhisper", "torch", "transformers")
CPU_ONLY = None

_EMBEDDING, _OUTPUT = "model.decoder.embed_tokens", "proj_out"
_KINDS = (layers.Linear, layers.Embedding, layers.Convolution)
_EXACT, _ROUNDED = Activations(), Activations("int8", "per-row")
_SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)  # of a group's range: more clipping, finer steps


def quantize(
    model: WhisperForConditionalGeneration,
    recipe: Recipe,
    calibrate: Callable[[], None],  # noqa: ARG001 # nothing here needs data
) -> None:
    """Replace the layers in scope by quantized ones.

    Raises RecipeError for other activations, another grid, and an embedding or output layer alone.
    """
    import torch

    if recipe.scheme != "dynamic" or recipe.activations not in {_EXACT, _ROUNDED}:
        raise RecipeError(
            f"{recipe.name}: edgewhisper has scheme 'dynamic', and leaves activations float32 or "
            "makes them activations.dtype = 'int8', granularity = 'per-row'."
        )
    rounds = recipe.activations == _ROUNDED
    ends = {"embedding", "output"}
    if len({recipe.weights_of(part) for part in ends}) > 1 or len(ends & set(recipe.scope)) == 1:
        raise RecipeError(
            f"{recipe.name}: edgewhisper stores the token embedding and the output layer as one "
            "tensor. Put both in scope, with the same weights, or neither."
        )
    ends_weights = [model.get_parameter(f"{name}.weight") for name in (_OUTPUT, _EMBEDDING)]
    if "output" in recipe.scope and not torch.equal(*ends_weights):
        raise RecipeError(
            f"{recipe.name}: edgewhisper stores the token embedding and the output layer as one "
            "tensor, and this checkpoint has two different ones. Leave both out of scope."
        )
    names = [name for name, _ in model.named_modules() if part_of(name) in recipe.scope]
    for name in names:
        module: Any = model.get_submodule(name)
        embedding: Any = model.get_submodule(_EMBEDDING)
        layer: nn.Module
        if name == _OUTPUT:
            layer = layers.Output(embedding, rounds=rounds)
        else:
            weights = recipe.weights_of(str(part_of(name)))
            codes = _quantized(recipe.name, name, module.weight.detach().flatten(1), weights)
            layer = _layer(module, codes, bias_of(module).get("bias"), rounds)
        model.set_submodule(name, layer)


def save(model: WhisperForConditionalGeneration, path: Path) -> None:
    """Write codes, scales and zero points; the output layer only refers to the embedding."""
    quantized = {}
    for name, module in model.named_modules():
        if isinstance(module, _KINDS):
            tensors = dict(module.codes.named_buffers()) | bias_of(module)
            quantized[name] = Layer(tensors, _rounding(module))
        elif isinstance(module, layers.Output):
            quantized[name] = Layer({}, {"shares": _EMBEDDING} | _rounding(module))
    write_model(path, model, quantized)


def load(path: Path, config: WhisperConfig) -> WhisperForConditionalGeneration:
    """Rebuild the quantized layers from their codes."""
    return read_model(path, config, _build)


def describe(module: nn.Module) -> WeightFormat | None:
    """Read the format from a layer's buffers; the output layer adds no bytes of its own."""
    if isinstance(module, layers.Output):
        shared = describe(module.embedding)
        return shared and WeightFormat(shared.dtype, shared.granularity, 0)
    if not isinstance(module, _KINDS):
        return None
    tensors = dict(module.codes.named_buffers())
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if "zero" not in tensors:
        return WeightFormat("int8", "per-channel", size)
    group = 2 * tensors["packed"].shape[-1]
    return WeightFormat("int4", Weights("int4", "asymmetric", "per-group", group).grain, size)


def grid(module: nn.Module) -> Grid | None:
    """Return a layer's codes; None for the output layer, which has no own tensor."""
    import numpy as np

    if not isinstance(module, _KINDS):
        return None
    tensors = {name: tensor.numpy() for name, tensor in module.codes.named_buffers()}
    if "int8" in tensors:
        return Grid.of_signed(tensors["int8"], tensors["scale"])
    packed = tensors["packed"]
    codes = np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1)
    zero = tensors["zero"][..., 0].astype(np.float32)
    return Grid(codes, tensors["scale"][..., 0], zero, 4)


def _quantized(recipe: str, name: str, weight: Tensor, weights: Weights) -> dict[str, Tensor]:
    """Return the codes of a weight [outputs, inputs], with scales and zero points, as buffers.

    The inputs of a convolution are channels times width.
    """
    if weights == Weights("int8", "symmetric", "per-channel"):
        return _int8(weight)
    if weights == Weights("int4", "asymmetric", "per-group", weights.group_size):
        if weight.shape[1] % weights.group_size or weights.group_size % 2:
            raise RecipeError(
                f"{recipe}: groups of {weights.group_size} do not fit the {weight.shape[1]} inputs "
                f"of {name}. Choose another group_size."
            )
        return _int4(weight, weights.group_size)
    raise RecipeError(
        f"{recipe}: edgewhisper quantizes to weights.dtype = 'int8' (method = 'symmetric', "
        "granularity = 'per-channel') or 'int4' (method = 'asymmetric', granularity = 'per-group', "
        "a group_size)."
    )


def _int8(weight: Tensor) -> dict[str, Tensor]:
    """Return codes int8 [outputs, inputs] and scales float32 [outputs, 1]: row maximum / 127."""
    import torch

    scale = (weight.abs().amax(dim=1, keepdim=True) / 127).clamp(min=torch.finfo(weight.dtype).tiny)
    return {"int8": (weight / scale).round().clamp(-127, 127).to(torch.int8), "scale": scale}


def _int4(weight: Tensor, group: int) -> dict[str, Tensor]:
    """Return codes of 4 bits, two in a byte, and each group's scale and zero point.

    packed uint8 [outputs, groups, group / 2], the first of two values in the low bits; scale
    float16 and zero uint8 [outputs, groups, 1]. Each group takes the shrunk range with the least
    squared error.
    """
    import torch

    values = weight.reshape(len(weight), -1, group)
    low = values.amin(-1, keepdim=True).clamp(max=0)
    high = values.amax(-1, keepdim=True).clamp(min=0)
    best: list[Tensor] = []
    for shrink in _SHRINKS:
        scale = (shrink * (high - low) / 15).clamp(min=2.0**-14).half()  # least normal float16
        zero = (-shrink * low / scale.float()).round().clamp(0, 15)
        codes = (values / scale.float() + zero).round().clamp(0, 15)
        error = ((codes - zero) * scale.float() - values).square().sum(-1, keepdim=True)
        candidate = [error, codes, scale, zero]
        best = (
            [
                torch.where(error < best[0], new, old)
                for new, old in zip(candidate, best, strict=True)
            ]
            if best
            else candidate
        )
    _, codes, scale, zero = best
    codes = codes.to(torch.uint8)
    return {
        "packed": codes[..., 0::2] | (codes[..., 1::2] << 4),
        "scale": scale,
        "zero": zero.to(torch.uint8),
    }


def _rounding(module: nn.Module) -> dict[str, Any]:
    """Return the entry of a layer's spec for the rounding of its inputs."""
    return {"activations": "int8"} if getattr(module, "rounds", False) else {}


def _layer(module: Any, tensors: dict[str, Tensor], bias: Tensor | None, rounds: bool) -> nn.Module:
    import torch

    codes = layers.Codes(tensors)
    if isinstance(module, torch.nn.Embedding):
        return layers.Embedding(codes)
    if isinstance(module, torch.nn.Conv1d):
        return layers.Convolution(codes, bias, module, rounds=rounds)
    return layers.Linear(codes, bias, rounds=rounds)


def _build(module: Any, layer: Layer, built: dict[str, nn.Module]) -> nn.Module:
    import torch

    rounds = layer.spec.get("activations") == "int8"
    if "shares" in layer.spec:
        embedding: Any = built[layer.spec["shares"]]
        return layers.Output(embedding, rounds=rounds)
    outputs, inputs = module.weight.flatten(1).shape
    if "int8" in layer.tensors:
        tensors = {
            "int8": take(layer, "int8", (outputs, inputs), torch.int8),
            "scale": take(layer, "scale", (outputs, 1), torch.float32),
        }
    else:
        groups = layer.tensors["scale"].shape[1]
        if inputs % (2 * groups):
            raise ValueError(f"{groups} groups of {inputs} inputs")
        packed = (outputs, groups, inputs // groups // 2)
        tensors = {
            "packed": take(layer, "packed", packed, torch.uint8),
            "scale": take(layer, "scale", (outputs, groups, 1), torch.float16),
            "zero": take(layer, "zero", (outputs, groups, 1), torch.uint8),
        }
    return _layer(module, tensors, take_bias(layer, module), rounds)
