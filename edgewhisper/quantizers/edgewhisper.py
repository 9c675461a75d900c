"""EdgeWhisper's own library: int8 rows, or groups of 2 to 4 bits; one tensor for both ends.

Every value is (code - zero) * scale: a grid that ONNX's integer operators hold exactly. `rounding`
finds the codes, `activations` measures what it needs, `smoothing` changes the model before.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewhisper.quantizers import layers
from edgewhisper.quantizers.activations import EMBEDDING, OUTPUT, Inputs, measure, source
from edgewhisper.quantizers.census import WeightFormat
from edgewhisper.quantizers.files import bias_of, read_model, write_model
from edgewhisper.quantizers.rounding import Codes, rounded
from edgewhisper.quantizers.scope import part_of
from edgewhisper.quantizers.smoothing import smooth
from edgewhisper.recipes.schema import Activations, Weights
from edgewhisper_exporters import packing
from edgewhisper_exporters.layers import Grid
from edgewhisper_runtime.engines.pytorch_file import Layer, take, take_bias
from edgewhisper_runtime.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    from edgewhisper.recipes import Recipe

DISTRIBUTIONS = ("edgewhisper", "torch", "transformers")
CPU_ONLY: dict[str, str] = {}

_KINDS = (layers.Linear, layers.Embedding, layers.Convolution)
_ROWS = Weights("int8", "symmetric", "per-channel")
_EXACT, _ROUNDED = Activations(), Activations("int8", "per-row")
_GROUPED = ("int4", "int3", "int2")
_METHODS = ("symmetric", "asymmetric")
_CODES_TOGETHER = 8  # that are packed into whole bytes, whatever their bits


def quantize(
    model: WhisperForConditionalGeneration,
    recipe: Recipe,
    calibrate: Callable[[], None],
) -> None:
    """Replace the layers in scope by quantized ones; raise RecipeError as `check` does."""
    check(model, recipe)
    inputs: dict[str, Inputs] = {}
    if recipe.calibrates:
        names = [name for name, _ in model.named_modules() if part_of(name) in recipe.scope]
        inputs = measure(model, names, calibrate)
    if recipe.smoothing:
        every = [name for name, _ in model.named_modules() if part_of(name)]
        inputs = smooth(model, every, inputs, recipe.smoothing)
    for name, layer in replacements(model, recipe, inputs):
        model.set_submodule(name, layer)


def check(model: WhisperForConditionalGeneration, recipe: Recipe) -> None:
    """Raise RecipeError for what the library cannot do.

    That is other activations, another grid, and an embedding or output layer alone.
    """
    import torch

    if recipe.scheme != "dynamic" or recipe.activations not in {_EXACT, _ROUNDED}:
        raise RecipeError(
            f"{recipe.name}: edgewhisper has scheme 'dynamic', and leaves activations float32 or "
            "makes them activations.dtype = 'int8', granularity = 'per-row'."
        )
    ends = {"embedding", "output"}
    if len({recipe.weights_of(part) for part in ends}) > 1 or len(ends & set(recipe.scope)) == 1:
        raise RecipeError(
            f"{recipe.name}: edgewhisper stores the token embedding and the output layer as one "
            "tensor. Put both in scope, with the same weights, or neither."
        )
    ends_weights = [model.get_parameter(f"{name}.weight") for name in (OUTPUT, EMBEDDING)]
    if "output" in recipe.scope and not torch.equal(*ends_weights):
        raise RecipeError(
            f"{recipe.name}: edgewhisper stores the token embedding and the output layer as one "
            "tensor, and this checkpoint has two different ones. Leave both out of scope."
        )
    for name, module in model.named_modules():
        if part_of(name) in recipe.scope:
            _check_weights(recipe, name, module)


def replacements(
    model: WhisperForConditionalGeneration, recipe: Recipe, inputs: dict[str, Inputs]
) -> Iterator[tuple[str, nn.Module]]:
    """Yield the name of each layer in scope and its quantized layer; the model is only read.

    `inputs` are statistics by source, for the ways of rounding that need them. The recipe is one
    that `check` has passed.
    """
    rounds = recipe.activations == _ROUNDED
    embedding: Any = None
    for name in [name for name, _ in model.named_modules() if part_of(name) in recipe.scope]:
        if name == OUTPUT:  # named after the embedding
            yield name, layers.Output(embedding, rounds=rounds)
            continue
        weights = recipe.weights_of(str(part_of(name)))
        layer = _quantized(model.get_submodule(name), weights, inputs.get(source(name)), rounds)
        embedding = layer if isinstance(layer, layers.Embedding) else embedding
        yield name, layer


def save(model: WhisperForConditionalGeneration, path: Path) -> None:
    """Write codes, scales and zero points; the output layer only refers to the embedding."""
    quantized = {}
    for name, module in model.named_modules():
        if isinstance(module, _KINDS):
            tensors = dict(module.codes.named_buffers()) | bias_of(module)
            quantized[name] = Layer(tensors, {"bits": module.codes.bits} | _rounding(module))
        elif isinstance(module, layers.Output):
            quantized[name] = Layer({}, {"shares": EMBEDDING} | _rounding(module))
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
    if "int8" in tensors:
        return WeightFormat("int8", "per-channel", size)
    bits = module.codes.bits
    group = tensors["packed"].shape[-1] * 8 // bits
    return WeightFormat(f"int{bits}", f"per-group {group}", size)


def grid(module: nn.Module) -> Grid | None:
    """Return a layer's codes; None for the output layer, which has no own tensor."""
    import numpy as np

    if not isinstance(module, _KINDS):
        return None
    tensors = {name: tensor.numpy() for name, tensor in module.codes.named_buffers()}
    if "int8" in tensors:
        return Grid.of_signed(tensors["int8"], tensors["scale"])
    codes = layers.unpacked(module.codes.get_buffer("packed"), module.codes.bits).flatten(1)
    scale = tensors["scale"][..., 0]
    zero = np.broadcast_to(np.asarray(module.codes.zeros(), np.float32), (*scale.shape, 1))[..., 0]
    return Grid(codes.numpy(), scale, zero, module.codes.bits)


def _check_weights(recipe: Recipe, name: str, module: Any) -> None:
    """Raise RecipeError where the weights of a layer cannot be stored as the recipe says."""
    weights = recipe.weights_of(str(part_of(name)))
    if weights == replace(_ROWS, rounding=weights.rounding):
        return
    group = weights.group_size
    if (
        weights.dtype not in _GROUPED
        or weights.granularity != "per-group"
        or weights.method not in _METHODS
        or weights.axis != 1
        or weights.double_quantized
    ):
        raise RecipeError(
            f"{recipe.name}: edgewhisper quantizes to weights.dtype = 'int8' (method = "
            "'symmetric', granularity = 'per-channel') or "
            f"{', '.join(map(repr, _GROUPED))} (method = {' or '.join(map(repr, _METHODS))}, "
            "granularity = 'per-group', a group_size)."
        )
    inputs = module.weight[0].numel()
    if inputs % group or group % _CODES_TOGETHER:
        raise RecipeError(
            f"{recipe.name}: groups of {group} do not fit the {inputs} inputs of {name}. Choose "
            "another group_size."
        )


def _quantized(module: Any, weights: Weights, inputs: Inputs | None, rounds: bool) -> nn.Module:
    """Return the layer over codes of a module's weight.

    Where the inputs were measured, the bias takes the mean of the error, and the codes are those
    with the least of the rest.
    """
    weight, bias = module.weight.detach().flatten(1), bias_of(module).get("bias")
    if inputs is None:
        return _layer(module, _buffers(rounded(weight, weights), weights), bias, rounds)
    moment = inputs.moment() if bias is None else inputs.covariance
    codes = rounded(weight, weights, moment, inputs.damping)
    if bias is not None:
        bias = bias + (weight - codes.values()) @ inputs.mean
    return _layer(module, _buffers(codes, weights), bias, rounds)


def _buffers(codes: Codes, weights: Weights) -> layers.Codes:
    """Return codes as they are stored."""
    import torch

    bits = weights.bits
    if weights.granularity == "per-channel":
        integers = (codes.codes.short() - 128).to(torch.int8)
        return layers.Codes({"int8": integers, "scale": codes.scale}, bits)
    grouped = codes.codes.reshape(*codes.scale.shape, -1).numpy()
    tensors = {
        "packed": torch.from_numpy(packing.pack(grouped, bits)),
        "scale": codes.scale[..., None].half(),
    }
    if weights.method == "asymmetric":
        tensors["zero"] = codes.zero[..., None].to(torch.uint8)
    return layers.Codes(tensors, bits)


def _rounding(module: nn.Module) -> dict[str, Any]:
    """Return the entry of a layer's spec for the rounding of its inputs."""
    return {"activations": "int8"} if getattr(module, "rounds", False) else {}


def _layer(module: Any, codes: layers.Codes, bias: Tensor | None, rounds: bool) -> nn.Module:
    import torch

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
        codes = layers.Codes(
            {
                "int8": take(layer, "int8", (outputs, inputs), torch.int8),
                "scale": take(layer, "scale", (outputs, 1), torch.float32),
            },
            8,
        )
    else:
        groups, bits = layer.tensors["scale"].shape[1], layer.spec["bits"]
        if bits not in {2, 3, 4} or inputs % (_CODES_TOGETHER * groups):
            raise ValueError(f"{groups} groups of {inputs} inputs in {bits} bits")
        tensors = {
            "packed": take(
                layer, "packed", (outputs, groups, inputs // groups * bits // 8), torch.uint8
            ),
            "scale": take(layer, "scale", (outputs, groups, 1), torch.float16),
        }
        if "zero" in layer.tensors:
            tensors["zero"] = take(layer, "zero", (outputs, groups, 1), torch.uint8)
        codes = layers.Codes(tensors, bits)
    return _layer(module, codes, take_bias(layer, module), rounds)
