"""optimum-quanto: weights of Linear layers, dequantized when used; calibrated activations."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from edgewhisper.quantizers.census import WeightFormat
from edgewhisper.quantizers.files import skeleton
from edgewhisper.quantizers.scope import linear_modules, untie
from edgewhisper.recipes.schema import Granularity, Method, Weights
from edgewhisper_exporters.layers import Grid
from edgewhisper_runtime.engines import pytorch_file
from edgewhisper_runtime.errors import BundleError, RecipeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    from edgewhisper.recipes import Recipe

DISTRIBUTIONS = ("optimum-quanto", "torch", "transformers")
CPU_ONLY: dict[str, str] = {}

_MAP = "quantization_map"
_OUTPUTS = "outputs"
# The fixed method of quanto 0.2.7 for each dtype (nn/qmodule.py): the recipe must name the same, so
# that no report claims another method than the one that ran.
_RULES: dict[str, tuple[str, Method, Granularity]] = {
    "int8": ("qint8", "symmetric", "per-channel"),
    "int4": ("qint4", "asymmetric", "per-group"),
    "int2": ("qint2", "asymmetric", "per-group"),
    "float8_e4m3fn": ("qfloat8_e4m3fn", "symmetric", "per-channel"),
    "float8_e5m2": ("qfloat8_e5m2", "symmetric", "per-channel"),
}


# recipe's activations -> quanto's; the study's "static"
_ACTIVATIONS = {"float32": None, "int8": "qint8", "float8_e4m3fn": "qfloat8_e4m3fn"}


def quantize(
    model: WhisperForConditionalGeneration, recipe: Recipe, calibrate: Callable[[], None]
) -> None:
    """Quantize and freeze the Linear layers in scope, calibrated if activations are quantized.

    Raises RecipeError for another scope, or a method that quanto does not use.
    """
    from optimum.quanto import Calibration, freeze
    from optimum.quanto import quantize as quanto_quantize

    activations = recipe.activations.dtype
    if recipe.overrides or activations not in _ACTIVATIONS:
        raise RecipeError(
            f"{recipe.name}: quanto quantizes activations to {', '.join(_ACTIVATIONS)} or leaves "
            "them float32, and the whole scope alike (no overrides)."
        )
    static = activations != "float32"
    if static != (recipe.scheme == "static") or (
        static and recipe.activations.granularity != "per-tensor"
    ):
        raise RecipeError(
            f"{recipe.name}: quanto calibrates activations per tensor (scheme = 'static', "
            "activations.granularity = 'per-tensor'), or leaves them float32 (scheme = 'dynamic')."
        )
    weights = recipe.weights
    if weights.dtype not in _RULES:
        raise RecipeError(f"{recipe.name}: quanto has no weights.dtype {weights.dtype!r}.")
    qtype, method, granularity = _RULES[weights.dtype]
    _unpack_without_compiler()
    names = linear_modules(model, recipe)
    group = _group_size(model, names) if granularity == "per-group" else 0
    if weights != Weights(weights.dtype, method, granularity, group):
        required = f"method = {method!r}, granularity = {granularity!r}"
        required += f", group_size = {group}" if group else ""
        raise RecipeError(
            f"{recipe.name}: quanto quantizes {weights.dtype} in one way only; "
            f"set weights: {required}."
        )
    untie(model, recipe)
    quanto_quantize(model, weights=qtype, activations=_ACTIVATIONS[activations], include=names)
    freeze(model)
    if static:
        with Calibration():
            calibrate()


def save(model: WhisperForConditionalGeneration, path: Path) -> None:
    """Write the packed tensors, with quanto's own map of the quantized layers as metadata.

    That map does not say which layers' outputs stay quantized, as calibration decides.
    """
    from optimum.quanto import quantization_map

    layers = quantization_map(model)
    for name, kinds in layers.items():
        kinds[_OUTPUTS] = _quantizes_outputs(model.get_submodule(name))
    pytorch_file.write(path, model.state_dict(), {_MAP: json.dumps(layers)})


def load(path: Path, config: WhisperConfig) -> WhisperForConditionalGeneration:
    """Rebuild the quantized model without any float weights of its Linear layers."""
    from optimum.quanto import QModuleMixin
    from optimum.quanto.quantize import _quantize_submodule

    _unpack_without_compiler()
    tensors, metadata = pytorch_file.read(path)
    model = skeleton(config)
    try:
        quantized: dict[str, dict[str, Any]] = json.loads(metadata[_MAP])
        for name, kinds in quantized.items():
            activations = kinds["activations"] if kinds["activations"] != "none" else None
            _quantize_submodule(
                model,
                name,
                model.get_submodule(name),
                weights=kinds["weights"],
                activations=activations,
            )
            layer: Any = model.get_submodule(name)
            if activations and not kinds[_OUTPUTS]:
                layer.disable_output_quantization()
        for module in model.modules():
            if isinstance(module, QModuleMixin):
                module.freeze()
        shapes = {name: model.get_submodule(name).weight.shape for name in quantized}
        pytorch_file.assign(model, tensors, path)
        for name, shape in shapes.items():
            _check_shapes(model.get_submodule(name).weight, shape)
    except pytorch_file.UNFIT as error:
        raise BundleError(f"{path} has unusable layers ({error!r}). Build again.") from error
    return model


def _unpack_without_compiler() -> None:
    """Unpack codes of 4 and 2 bits by torch's own operators.

    At first use, quanto would compile C++ for this. That needs a compiler, and a compilation that
    was killed leaves a lock, for which every later process waits for ever.
    """
    import torch
    from optimum.quanto.library.extensions import get_extension

    def unpack(packed: torch.Tensor, bits: int) -> torch.Tensor:
        mask = 2**bits - 1
        return torch.cat([packed >> shift & mask for shift in range(0, 8, bits)])

    extension: Any = get_extension("quanto_cpp")
    extension._lib = SimpleNamespace(unpack=unpack)  # noqa: SLF001 # the extension that it would compile


def _check_shapes(weight: Any, shape: Any) -> None:
    """Raise ValueError unless the sizes of codes and scales fit the weight.

    Quanto accepts any sizes that broadcast.
    """
    group = getattr(weight, "_group_size", None)
    grid = tuple(shape) if group is None else (shape.numel() // group, group)
    shapes = [tuple(getattr(weight, name).shape) for name in ("_data", "_scale")]
    if shapes != [grid, (grid[0], 1)]:
        raise ValueError(f"codes {shapes[0]} and scales {shapes[1]} for a weight {tuple(shape)}")


def describe(module: nn.Module) -> WeightFormat | None:
    """Read dtype and granularity from quanto's tensor classes."""
    from optimum.quanto import QTensor

    weight = getattr(module, "weight", None)
    if not isinstance(weight, QTensor):
        return None
    inner = [getattr(weight, name, None) for name in ("_data", "_scale", "_shift")]
    size = sum(_stored_bytes(tensor) for tensor in inner if tensor is not None)
    group = getattr(weight, "_group_size", None)
    grain = f"per-group {group}" if group else "per-channel"
    return WeightFormat(weight.qtype.name.removeprefix("q"), grain, size)


def grid(module: nn.Module) -> Grid | None:
    """Return quanto's integers of 8, 4 or 2 bits; a float shift comes after the scale."""
    import numpy as np

    weight: Any = getattr(module, "weight", None)
    stored = describe(module)
    if stored is None or stored.dtype not in {"int8", "int4", "int2"}:
        return None
    outputs = weight.shape[0]
    scale = weight._scale.reshape(outputs, -1).numpy()  # noqa: SLF001 # what its files hold
    if stored.dtype == "int8":
        return Grid.of_signed(weight._data.numpy(), scale)  # noqa: SLF001 # see above
    codes = weight._data.unpack().reshape(outputs, -1).numpy()  # noqa: SLF001 # see above
    shift = weight._shift.reshape(outputs, -1).numpy()  # noqa: SLF001 # see above
    if weight._shift.is_floating_point():  # noqa: SLF001 # see above
        # a group of zeros has neither scale nor shift
        shift = np.divide(shift, scale, out=np.zeros_like(shift), where=scale != 0)
    return Grid(codes, scale, shift, int(stored.dtype[-1]))


def _quantizes_outputs(module: Any) -> bool:
    """Tell whether the hook that quantizes a layer's output is still there."""
    hook = module._quantize_hooks.get("output")  # noqa: SLF001 # quanto has no public way to ask
    return hook is not None and hook.id in module._forward_hooks  # noqa: SLF001 # see above


def _group_size(model: nn.Module, names: list[str]) -> int:
    """Return the group size that quanto chooses: 128, or a smaller divisor of the inputs."""
    sizes = set()
    for name in names:
        weight = model.get_parameter(f"{name}.weight")
        size = next((s for s in (128, 96, 64, 32) if weight.shape[1] % s == 0), 0)
        sizes.add(size)
    return max(sizes, default=0)


def _stored_bytes(tensor: Any) -> int:
    packed = getattr(tensor, "_data", tensor)
    return int(packed.numel() * packed.element_size())
