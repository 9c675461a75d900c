"""HQQ: groups of weights, zero points fitted without data, dequantized when used."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edgewhisper.quantizers.census import WeightFormat
from edgewhisper.quantizers.files import bias_of, read_model, write_model
from edgewhisper.quantizers.scope import linear_modules, part_of, untie
from edgewhisper.recipes.schema import Weights
from edgewhisper_exporters.layers import Grid
from edgewhisper_runtime.engines.pytorch_file import Layer, take, take_bias
from edgewhisper_runtime.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    from edgewhisper.recipes import Recipe

DISTRIBUTIONS = ("hqq", "torch", "transformers")
CPU_ONLY: dict[str, str] = {}

_EXPORTED = {8, 4, 3, 2}  # bits that engines multiply
# bits -> how many values HQQ packs into one element, and the bits of that element
_PACKING = {8: (1, 8), 4: (2, 8), 3: (10, 32), 2: (4, 8), 1: (8, 8)}


def quantize(
    model: WhisperForConditionalGeneration,
    recipe: Recipe,
    calibrate: Callable[[], None],  # noqa: ARG001 # HQQ needs no data
) -> None:
    """Replace the Linear layers in scope by HQQ's.

    Raises RecipeError for activations, for weights that HQQ has no way to store, and for groups
    that do not fit a layer.
    """
    from hqq.core.quantize import HQQLinear

    if recipe.scheme != "dynamic" or recipe.activations.dtype != "float32":
        raise RecipeError(f"{recipe.name}: hqq quantizes weights only, with scheme = 'dynamic'.")
    untie(model, recipe)
    for name in linear_modules(model, recipe):
        weights = recipe.weights_of(str(part_of(name)))
        module: Any = model.get_submodule(name)
        _check(recipe.name, name, tuple(module.weight.shape), weights)
        model.set_submodule(name, _linear(HQQLinear, module, weights))


def save(model: WhisperForConditionalGeneration, path: Path) -> None:
    """Write the packed weights, their scales and zero points, and the biases."""
    layers = {}
    for name, module in model.named_modules():
        if (meta := _meta(module)) is not None:
            quantized: Any = module
            tensors = {"packed": quantized.W_q.data, "scale": meta["scale"], "zero": meta["zero"]}
            spec = {key: meta[key] for key in ("nbits", "group_size", "axis")}
            layers[name] = Layer(tensors | bias_of(module), spec)
    write_model(path, model, layers)


def load(path: Path, config: WhisperConfig) -> WhisperForConditionalGeneration:
    """Rebuild HQQ's layers from the packed weights."""
    return read_model(path, config, _build)


def describe(module: nn.Module) -> WeightFormat | None:
    """Read bits, group size and axis from a layer's metadata."""
    meta = _meta(module)
    if meta is None:
        return None
    quantized: Any = module
    stored = (quantized.W_q, meta["scale"], meta["zero"])
    size = sum(tensor.numel() * tensor.element_size() for tensor in stored)
    weights = Weights(
        f"int{meta['nbits']}",  # type: ignore[arg-type] # one of HQQ's bits
        "asymmetric",
        "per-group",
        meta["group_size"],
        meta["axis"],
    )
    return WeightFormat(weights.dtype, weights.grain, size)


def _meta(module: nn.Module) -> dict[str, Any] | None:
    from hqq.core.quantize import HQQLinear

    return module.meta if isinstance(module, HQQLinear) else None


def _check(recipe: str, name: str, shape: tuple[int, ...], weights: Weights) -> None:
    dtypes = [f"int{bits}" for bits in _PACKING]
    if weights.dtype not in dtypes or (weights.method, weights.granularity) != (
        "asymmetric",
        "per-group",
    ):
        raise RecipeError(
            f"{recipe}: hqq quantizes to weights.dtype = {', '.join(map(repr, dtypes))} with "
            "method = 'asymmetric', granularity = 'per-group'."
        )
    count, group = shape[0] * shape[1], weights.group_size
    rows = group if weights.axis == 0 else count // group
    together, element = _PACKING[weights.bits]
    whole = rows % together == 0 or element > 8  # noqa: PLR2004 # HQQ pads what it packs into more than a byte
    if count % group or group % 8 or not whole or (weights.axis == 1 and shape[1] % group):
        raise RecipeError(
            f"{recipe}: groups of {group} along axis {weights.axis} do not fit {name}, whose "
            f"weight is {list(shape)}, at {weights.bits} bits. Choose another group_size, or leave "
            f"{part_of(name)} out of scope."
        )


def grid(module: nn.Module) -> Grid | None:
    """Return HQQ's integers of 2 to 8 bits in groups along the inputs; zero points are floats."""
    import numpy as np
    from hqq.core.quantize import Quantizer

    meta, quantized = _meta(module), cast("Any", module)
    if meta is None or meta["nbits"] not in _EXPORTED or meta["axis"] != 1:
        return None
    bits, (outputs, inputs) = int(meta["nbits"]), meta["shape"]
    rows = outputs * inputs // meta["group_size"]
    unpacked = Quantizer.unpack[meta["packing"]](quantized.W_q)[:rows]  # padded by some
    codes = unpacked.reshape(outputs, inputs)
    scale, zero = (meta[key].reshape(outputs, -1).numpy() for key in ("scale", "zero"))
    return Grid(codes.numpy().astype(np.uint8), scale, zero, bits)


def _linear(kind: Any, module: Any, weights: Weights) -> Any:
    import torch
    from hqq.core.quantize import BaseQuantizeConfig

    config = BaseQuantizeConfig(
        nbits=weights.bits, group_size=weights.group_size, axis=weights.axis
    )
    return kind(module, config, compute_dtype=torch.float32, device="cpu")


def _build(module: Any, layer: Layer, _built: dict[str, nn.Module]) -> nn.Module:
    import torch
    from hqq.core.quantize import BaseQuantizeConfig, Quantizer

    bits, group, axis = (int(layer.spec[key]) for key in ("nbits", "group_size", "axis"))
    if axis not in {0, 1}:
        raise ValueError(f"axis {axis}")
    shape = tuple(module.weight.shape)
    columns = shape[0] * shape[1] // group
    grouped = (group, columns) if axis == 0 else (columns, group)
    scales = (1, columns) if axis == 0 else (columns, 1)
    together, element = _PACKING[bits]
    packed = (-(-grouped[0] // together), grouped[1])
    dtype = torch.uint8 if element == 8 else torch.int32  # noqa: PLR2004 # bits of a byte
    config = BaseQuantizeConfig(nbits=bits, group_size=group, axis=axis)
    quantized: Any = _moving()(
        None, config, compute_dtype=torch.float32, device="cpu", initialize=False
    )
    packing = Quantizer.bit_to_packing[bits]
    quantized.load_state_dict(
        {
            "W_q": take(layer, "packed", packed, dtype),
            "bias": take_bias(layer, module),
            "scale": take(layer, "scale", scales, torch.float32),
            "zero": take(layer, "zero", scales, torch.float32),
            "nbits": bits,
            "group_size": group,
            "axis": axis,
            "shape": torch.Size(shape),
            "packing": packing,
            "unpack_view_dtype": Quantizer.unpack_view_dtype[packing],
            "view_as_float": False,
            "quant_scale": False,
            "quant_zero": False,
            "compute_dtype": torch.float32,
        }
    )
    return quantized


@cache
def _moving() -> Any:
    """Return HQQ's layer, all of whose tensors move to another device with it."""
    import torch
    from hqq.core.quantize import HQQLinear

    class Moving(HQQLinear):
        bias: torch.Tensor | None

        def _apply(self, function: Callable[[Any], Any], recurse: bool = True) -> Any:
            for key, value in self.meta.items():
                if isinstance(value, torch.Tensor):
                    self.meta[key] = function(value)
            if self.bias is not None:
                self.bias = function(self.bias)
            return super()._apply(function, recurse)

    return Moving
