"""bitsandbytes: int8 with activations quantized row by row, and 4-bit code books, nf4 and fp4."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewhisper.quantizers.census import WeightFormat
from edgewhisper.quantizers.files import bias_of, read_model, write_model
from edgewhisper.quantizers.scope import linear_modules, part_of, untie
from edgewhisper.recipes.schema import Weights
from edgewhisper_exporters.layers import Grid
from edgewhisper_runtime.engines.pytorch_file import Layer, take, take_bias
from edgewhisper_runtime.errors import QuantizationError, RecipeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    from edgewhisper.recipes import Recipe

DISTRIBUTIONS = ("bitsandbytes", "torch", "transformers")
CPU_ONLY = {"int8": "bitsandbytes leaves the codes of a loaded int8 layer where they were read"}

logging.getLogger("bitsandbytes").setLevel(
    logging.ERROR
)  # it warns at every matrix product on a CPU

_LARGEST_CODE = 127  # SCB is the magnitude of this code
_INT8 = Weights("int8", "symmetric", "per-channel")
_BLOCK = 64  # bitsandbytes' default block size for 4-bit weights
_ROWS = 32  # its CPU kernel for 4 bits takes outputs in blocks of this many


def quantize(
    model: WhisperForConditionalGeneration,
    recipe: Recipe,
    calibrate: Callable[[], None],  # noqa: ARG001 # bitsandbytes needs no data
) -> None:
    """Replace the Linear layers in scope by bitsandbytes' own.

    Raises RecipeError for weights or activations that bitsandbytes does not have.
    """
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    untie(model, recipe)
    for name in linear_modules(model, recipe):
        weights = recipe.weights_of(str(part_of(name)))
        module: Any = model.get_submodule(name)
        rows, columns = module.weight.shape
        _check(recipe, name, rows, weights)
        quantized: Any
        if weights == _INT8:
            quantized = Linear8bitLt(columns, rows, module.bias is not None, has_fp16_weights=False)
        else:
            quantized = Linear4bit(
                columns,
                rows,
                module.bias is not None,
                compress_statistics=weights.double_quantized,
                quant_type=weights.dtype,
            )
        quantized.load_state_dict(module.state_dict())
        model.set_submodule(name, quantized.to("cpu").eval())


def save(model: WhisperForConditionalGeneration, path: Path) -> None:
    """Write the codes and their scales.

    Raises QuantizationError once the model has run: the first 4-bit product on a CPU rounds the
    scales and rearranges the codes in place.
    """
    layers = {}
    for name, module in model.named_modules():
        weight: Any = getattr(module, "weight", None)
        if _is_int8(module):
            quantized: Any = module
            scale = quantized.state.SCB if weight.SCB is None else weight.SCB
            layers[name] = Layer({"codes": weight.data, "scale": scale} | bias_of(module), {})
        elif (state := _state(module)) is not None:
            if getattr(state, "packing_format_for_cpu", False):
                raise QuantizationError(
                    f"{name} has run, and bitsandbytes then no longer holds what was quantized. "
                    "Quantize again, and save before running."
                )
            tensors = {"codes": weight.data, "absmax": state.absmax}
            if state.nested:
                tensors["nested_absmax"] = state.state2.absmax
                tensors["nested_codebook"] = state.state2.code.clone()
                tensors["nested_offset"] = state.offset
            layers[name] = Layer(tensors | bias_of(module), {"dtype": state.quant_type})
    write_model(path, model, layers)


def load(path: Path, config: WhisperConfig) -> WhisperForConditionalGeneration:
    """Rebuild bitsandbytes' layers from their codes."""
    return read_model(path, config, _build)


def describe(module: nn.Module) -> WeightFormat | None:
    """Read the kind of layer and its quantization state."""
    weight: Any = getattr(module, "weight", None)
    if _is_int8(module):
        scales = module.out_features * 4  # type: ignore[operator] # float32 for each output
        return WeightFormat(_INT8.dtype, _INT8.grain, weight.numel() + scales)
    state = _state(module)
    if state is None:
        return None
    stored = [weight, state.absmax]
    if state.nested:
        stored += [state.state2.absmax, state.state2.code, state.offset]
    grain = Weights(
        state.quant_type, "symmetric", "per-group", state.blocksize, double_quantized=state.nested
    ).grain
    size = sum(tensor.numel() * tensor.element_size() for tensor in stored)
    return WeightFormat(state.quant_type, grain, size)


def grid(module: nn.Module) -> Grid | None:
    """Return the integers of an int8 layer; 4-bit values are not evenly spaced."""
    if not _is_int8(module):
        return None
    weight: Any = module.weight
    return Grid.of_signed(weight.CB.numpy(), weight.SCB.reshape(-1, 1).numpy() / _LARGEST_CODE)


def _is_int8(module: nn.Module) -> bool:
    from bitsandbytes.nn import Linear8bitLt

    return isinstance(module, Linear8bitLt)


def _state(module: nn.Module) -> Any:
    """Return the quantization state of a 4-bit layer, None for any other."""
    from bitsandbytes.nn import Linear4bit

    weight: Any = getattr(module, "weight", None)
    return weight.quant_state if isinstance(module, Linear4bit) else None


def _check(recipe: Recipe, name: str, rows: int, weights: Weights) -> None:
    four_bits = Weights(
        weights.dtype, "symmetric", "per-group", _BLOCK, double_quantized=weights.double_quantized
    )
    if weights != _INT8 and (weights.dtype not in {"nf4", "fp4"} or weights != four_bits):
        raise RecipeError(
            f"{recipe.name}: bitsandbytes has weights.dtype = 'int8' (method = 'symmetric', "
            "granularity = 'per-channel'), and 'nf4' and 'fp4' (method = 'symmetric', "
            f"granularity = 'per-group', group_size = {_BLOCK}, with or without double_quantized)."
        )
    dtype, granularity = ("int8", "per-row") if weights == _INT8 else ("float32", "none")
    activations = (recipe.activations.dtype, recipe.activations.granularity)
    if recipe.scheme != "dynamic" or recipe.overrides or activations != (dtype, granularity):
        raise RecipeError(
            f"{recipe.name}: bitsandbytes runs {weights.dtype} weights with scheme = 'dynamic' and "
            f"activations.dtype = {dtype!r}, granularity = {granularity!r}, without overrides."
        )
    if weights != _INT8 and rows % _ROWS:
        raise RecipeError(
            f"{recipe.name}: bitsandbytes' 4-bit product on a CPU takes outputs in blocks of "
            f"{_ROWS}, and {name} has {rows}. Leave {part_of(name)} out of scope."
        )


def _build(module: Any, layer: Layer, _built: dict[str, nn.Module]) -> nn.Module:
    import torch
    from bitsandbytes.functional import QuantState, get_4bit_type
    from bitsandbytes.nn import Int8Params, Linear4bit, Linear8bitLt, Params4bit

    rows, columns = module.weight.shape
    bias = take_bias(layer, module)
    quantized: Any
    with torch.device("meta"):
        if "dtype" in layer.spec:
            quantized = Linear4bit(columns, rows, bias is not None)
        else:
            quantized = Linear8bitLt(columns, rows, bias is not None, has_fp16_weights=False)
    if bias is not None:
        quantized.bias = torch.nn.Parameter(bias, requires_grad=False)
    if "dtype" not in layer.spec:
        codes = take(layer, "codes", (rows, columns), torch.int8)
        scale = take(layer, "scale", (rows,), torch.float32)
        quantized.weight = Int8Params(codes, requires_grad=False, CB=codes, SCB=scale)
        return quantized
    count = rows * columns
    nested = "nested_absmax" in layer.tensors
    inner = None
    if nested:
        inner = QuantState(
            absmax=take(layer, "nested_absmax", (-(-count // _BLOCK // 256),), torch.float32),
            code=take(layer, "nested_codebook", (256,), torch.float32),
            blocksize=256,
            dtype=torch.float32,
        )
    state = QuantState(
        absmax=take(layer, "absmax", (count // _BLOCK,), torch.uint8 if nested else torch.float32),
        shape=torch.Size((rows, columns)),
        code=get_4bit_type(layer.spec["dtype"], device="cpu"),
        blocksize=_BLOCK,
        quant_type=layer.spec["dtype"],
        dtype=torch.float32,
        offset=take(layer, "nested_offset", (), torch.float32) if nested else None,
        state2=inner,
    )
    quantized.weight = Params4bit(
        take(layer, "codes", (count // 2, 1), torch.uint8),
        quant_state=state,
        blocksize=_BLOCK,
        compress_statistics=nested,
        quant_type=layer.spec["dtype"],
        module=quantized,
        bnb_quantized=True,
    )
    quantized.quant_state = state
    return quantized
