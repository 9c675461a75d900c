"""PyTorch itself: the float types, int8 Linear layers (dynamic or calibrated), int8 embeddings.

Dynamic int8 quantizes activations per tensor as they come, so texts depend on what shares a batch:
evaluate at batch 1.
"""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewhisper.quantizers import layers
from edgewhisper.quantizers.census import WeightFormat
from edgewhisper.quantizers.files import Layer, bias_of, read_model, take, take_bias, write_model
from edgewhisper.quantizers.scope import part_of, untie
from edgewhisper.recipes.schema import Activations, Weights
from edgewhisper_runtime.errors import MissingLibraryError, RecipeError
from edgewhisper_runtime.measure import machine

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    from edgewhisper.recipes import Recipe
    from edgewhisper_exporters.layers import Grid

DISTRIBUTIONS = ("torch", "transformers")
CPU_ONLY = "PyTorch has no int8 product of this kind for other devices"

# torch's dynamic Linear takes 7 bits for activations from this module version on (reduce_range).
_SEVEN_BITS, _EIGHT_BITS = 4, 3
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
    from torch.ao import quantization

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
    with _deprecated():
        if recipe.scheme == "static":
            linear = [name for name, weights in names.items() if weights == _PER_CHANNEL]
            _quantize_statically(model, linear, calibrate)
        quantization.quantize_dynamic(
            model,
            {
                name: {
                    _PER_TENSOR: quantization.default_dynamic_qconfig,
                    _PER_CHANNEL: quantization.per_channel_dynamic_qconfig,
                    _EMBEDDING: quantization.float_qparams_weight_only_qconfig,
                }[weights]
                for name, weights in names.items()
                if not isinstance(model.get_submodule(name), layers.StaticLinear)
            },
            dtype=torch.quint8,  # of embeddings; Linear layers go by their own configuration
            inplace=True,
        )
    for module in model.modules():
        if _kind(module) == "dynamic":
            _set_bits(module, recipe.activations.dtype)


def save(model: WhisperForConditionalGeneration, path: Path) -> None:
    """Write plain tensors; of a quantized layer its integers, its scales and its bias."""
    found = {}
    for name, module in model.named_modules():
        if kind := _kind(module):
            weight = _weight(module)
            tensors = {"int8": weight.int_repr()} | _scales(weight)
            spec = {"kind": kind}
            if kind == "dynamic":
                layer: Any = module
                spec["activations"] = "uint7" if layer.version >= _SEVEN_BITS else "uint8"
                tensors |= {} if layer.bias() is None else {"bias": layer.bias().detach()}
            elif kind == "static":
                tensors |= dict(module.named_buffers()) | bias_of(module)
            found[name] = Layer(tensors, spec)
    write_model(path, model, found)


def load(path: Path, config: WhisperConfig) -> WhisperForConditionalGeneration:
    """Build the model from the file, its quantized layers from their integers.

    Raises MissingLibraryError on an x86 processor that cannot multiply 8 bits by 8 exactly.
    """
    with _deprecated():
        return read_model(path, config, _build)


def describe(module: nn.Module) -> WeightFormat | None:
    """Read the scheme off torch's own quantized tensor; the layer may be one of TorchScript."""
    weight = _weight(module) if _kind(module) else _traced_weight(module)
    if weight is None:
        return None
    scales = _scales(weight)
    size = weight.numel() + sum(t.numel() * t.element_size() for t in scales.values())
    stored = _PER_CHANNEL if scales["scale"].ndim else _PER_TENSOR
    return WeightFormat("int8", stored.grain, size)


def grid(module: nn.Module) -> Grid | None:  # noqa: ARG001 # as every adapter has it
    """Return nothing: what multiplies these weights is PyTorch's own."""
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


def _quantize_statically(model: nn.Module, names: list[str], calibrate: Callable[[], None]) -> None:
    """Replace Linear layers by int8 ones whose input ranges were found on calibration data."""
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
    for name, observer in observers.items():
        module: Any = model.get_submodule(name)
        of_weight = quantization.default_per_channel_weight_observer()
        of_weight(module.weight)
        scales, zeros = of_weight.calculate_qparams()
        weight = torch.quantize_per_channel(
            module.weight.detach(), scales.double(), zeros, 0, torch.qint8
        )
        scale, zero = observer.calculate_qparams()
        model.set_submodule(name, layers.StaticLinear(weight, module.bias, scale, zero))


@contextmanager
def _deprecated() -> Iterator[None]:
    """Silence the warnings of an interface that is deprecated, and still PyTorch's fastest int8."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _kind(module: Any) -> str:
    """Return how a layer is quantized: "dynamic", "static", "embedding", or "" for not at all."""
    from torch.ao.nn.quantized import Embedding
    from torch.ao.nn.quantized.dynamic import Linear

    kinds = ((Linear, "dynamic"), (layers.StaticLinear, "static"), (Embedding, "embedding"))
    return next((kind for cls, kind in kinds if isinstance(module, cls)), "")


def _weight(module: Any) -> Any:
    """Return the quantized tensor [outputs, inputs] of a quantized layer."""
    return module.weight()  # a method of torch's quantized layers


def _traced_weight(module: Any) -> Any:
    """Return the quantized weight of a layer read from TorchScript; None where it has none.

    TorchScript keeps a layer's attributes under the names that they had, underscores and all.
    """
    import torch

    inner = getattr(module, "_packed_params", None)
    if not isinstance(inner, torch.nn.Module):  # static, or what is inside of another
        inner = None
    embedding = getattr(inner, "_packed_weight", None)
    linear = getattr(inner, "_packed_params", getattr(module, "_packed", None))
    if embedding is not None:
        return torch.ops.quantized.embedding_bag_unpack(embedding)
    return None if linear is None else torch.ops.quantized.linear_unpack(linear)[0]


def _set_bits(module: Any, activations: str) -> None:
    module.version = {"uint7": _SEVEN_BITS, "uint8": _EIGHT_BITS}[activations]


def _scales(weight: Any) -> dict[str, Tensor]:
    """Return `scale` float64, [] per tensor or [channels] per channel; of an embedding `scale`
    and `zero` float32 [rows].
    """
    import torch

    if weight.qscheme() == torch.per_tensor_affine:
        return {"scale": torch.tensor(weight.q_scale(), dtype=torch.float64)}
    if weight.qscheme() == torch.per_channel_affine_float_qparams:
        return {"scale": weight.q_per_channel_scales(), "zero": weight.q_per_channel_zero_points()}
    return {"scale": weight.q_per_channel_scales()}


def _build(module: Any, layer: Layer, _built: dict[str, nn.Module]) -> nn.Module:
    import torch
    from torch.ao.nn.quantized import Embedding
    from torch.ao.nn.quantized.dynamic import Linear

    rows, columns = module.weight.shape
    quantized: Any
    if layer.spec["kind"] == "embedding":
        integers = take(layer, "int8", (rows, columns), torch.uint8)
        scale, zero = (take(layer, name, (rows,), torch.float32) for name in ("scale", "zero"))
        weight = torch._make_per_channel_quantized_tensor(integers, scale, zero, 0)  # noqa: SLF001 # the only way that rounds nothing
        return Embedding(rows, columns, _weight=weight)
    _check_processor(layer.spec.get("activations", "uint8"))
    bias = take_bias(layer, module)
    integers = take(layer, "int8", (rows, columns), torch.int8)
    if layer.tensors["scale"].ndim:
        scale = take(layer, "scale", (rows,), torch.float64)
        zeros = torch.zeros(rows, dtype=torch.int64)
        weight = torch._make_per_channel_quantized_tensor(integers, scale, zeros, 0)  # noqa: SLF001 # see above
    else:
        scale = take(layer, "scale", (), torch.float64)
        weight = torch._make_per_tensor_quantized_tensor(integers, scale.item(), 0)  # noqa: SLF001 # see above
    if layer.spec["kind"] == "static":
        found = take(layer, "input_scale", (1,), torch.float32)
        return layers.StaticLinear(
            weight, bias, found, take(layer, "input_zero", (1,), torch.int32)
        )
    quantized = Linear(columns, rows, bias is not None)
    quantized.set_weight_bias(weight, bias)
    _set_bits(quantized, layer.spec["activations"])
    return quantized


def _check_processor(activations: str) -> None:
    """Refuse 8-bit activations where the kernels add pairs of products in 16 bits."""
    isa = machine.describe()["isa"]
    x86 = platform.machine().lower() in {"x86_64", "amd64"}
    if activations == "uint8" and x86 and not any("vnni" in flag for flag in isa):
        raise MissingLibraryError(
            "this variant has 8-bit activations, whose products overflow on an x86 processor "
            "without VNNI. Build it from a recipe with activations.dtype = 'uint7'."
        )
