"""PyTorch's int8 layers: packed from integers and scales, and given back as these."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from edgewhisper_runtime.engines.pytorch_file import Layer, take, take_bias
from edgewhisper_runtime.errors import MissingLibraryError
from edgewhisper_runtime.measure import machine

_ACTIVATIONS = ("uint8", "uint7")


class DynamicLinear(nn.Module):
    """torch.nn.Linear with int8 weights, its inputs quantized by the range that they have."""

    def __init__(self, weight: Tensor, bias: Tensor | None, activations: str) -> None:
        """Pack a weight of dtype qint8 [outputs, inputs] and a bias float32 [outputs].

        `activations`, "uint8" or "uint7", is what inputs are quantized to.
        """
        super().__init__()
        self._packed = torch.ops.quantized.linear_prepack(weight, bias)
        self._activations = activations

    def forward(self, hidden: Tensor) -> Tensor:
        """Map float32 [..., inputs] to [..., outputs]."""
        mapped: Tensor = torch.ops.quantized.linear_dynamic(
            hidden, self._packed, reduce_range=self._activations == "uint7"
        )
        return mapped

    def stored(self) -> Layer:
        """Return what a file holds of it: int8, scale float64 ([outputs] or []), bias."""
        return Layer(_unpack(self._packed), {"kind": "dynamic", "activations": self._activations})


class StaticLinear(nn.Module):
    """torch.nn.Linear with int8 weights, its inputs quantized to uint8 by a fixed range."""

    def __init__(self, weight: Tensor, bias: Tensor | None, scale: Tensor, zero: Tensor) -> None:
        """Pack a weight of dtype qint8 [outputs, inputs] and a bias float32 [outputs].

        Inputs x become the integers x / scale + zero; `scale` and `zero` have one element.
        """
        super().__init__()
        self._packed = torch.ops.quantized.linear_prepack(weight, bias)
        self.input_scale, self.input_zero = float(scale), int(zero)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map float32 [..., inputs] to [..., outputs]."""
        mapped: Tensor = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            hidden, self.input_scale, self.input_zero, self._packed
        )
        return mapped

    def stored(self) -> Layer:
        """Return what a file holds of it: int8, scale, bias; of its inputs scale and zero."""
        inputs = {
            "input_scale": torch.tensor([self.input_scale], dtype=torch.float32),
            "input_zero": torch.tensor([self.input_zero], dtype=torch.int32),
        }
        return Layer(_unpack(self._packed) | inputs, {"kind": "static"})


class Embedding(nn.Module):
    """torch.nn.Embedding with 8-bit rows, each of a scale and a float zero point of its own."""

    def __init__(self, weight: Tensor) -> None:
        """Pack a weight of dtype quint8 [rows, width]."""
        super().__init__()
        self._packed = torch.ops.quantized.embedding_bag_prepack(weight)

    def forward(self, ids: Tensor) -> Tensor:
        """Map int64 [...] to float32 [..., width]; raise RuntimeError for a row that is none."""
        vectors: Tensor = torch.ops.quantized.embedding_byte(self._packed, ids)
        return vectors

    def stored(self) -> Layer:
        """Return what a file holds of it: int8 as uint8, scale and zero float32 [rows]."""
        weight = torch.ops.quantized.embedding_bag_unpack(self._packed)
        tensors = {
            "int8": weight.int_repr(),
            "scale": weight.q_per_channel_scales(),
            "zero": weight.q_per_channel_zero_points(),
        }
        return Layer(tensors, {"kind": "embedding"})


Quantized = DynamicLinear | StaticLinear | Embedding


def build(module: nn.Module, layer: Layer, _built: dict[str, nn.Module]) -> nn.Module:
    """Return the quantized layer that a file holds in place of a float one.

    Raises one of pytorch_file.UNFIT where it does not fit, MissingLibraryError on a processor that
    cannot multiply 8 bits by 8 exactly.
    """
    kind = layer.spec["kind"]
    if not isinstance(module, nn.Embedding if kind == "embedding" else nn.Linear):
        raise ValueError(f"{type(module).__name__} cannot be {str(kind)[:40]!r}")  # noqa: TRY004 # the file's fault
    rows, columns = module.weight.shape
    with without_deprecation():
        if kind == "embedding":
            integers = take(layer, "int8", (rows, columns), torch.uint8)
            scale = _positive(take(layer, "scale", (rows,), torch.float32))
            zero = _finite(take(layer, "zero", (rows,), torch.float32))
            return Embedding(_by_row(integers, scale, zero))
        integers = take(layer, "int8", (rows, columns), torch.int8)
        if layer.tensors["scale"].ndim:
            scale = _positive(take(layer, "scale", (rows,), torch.float64))
            weight = _by_row(integers, scale, torch.zeros(rows, dtype=torch.int64))
        else:
            scale = _positive(take(layer, "scale", (), torch.float64))
            weight = torch._make_per_tensor_quantized_tensor(integers, scale.item(), 0)  # noqa: SLF001 # the only way that rounds nothing
        bias = take_bias(layer, module)
        bias = None if bias is None else _finite(bias)
        if kind == "dynamic" and (activations := layer.spec["activations"]) in _ACTIVATIONS:
            _check_processor(activations)
            return DynamicLinear(weight, bias, activations)
        if kind == "static":
            _check_processor("uint8")
            zero = take(layer, "input_zero", (1,), torch.int32)
            if not 0 <= int(zero) <= torch.iinfo(torch.uint8).max:
                raise ValueError(f"input_zero is {int(zero)}")
            scale = _positive(take(layer, "input_scale", (1,), torch.float32))
            return StaticLinear(weight, bias, scale, zero)
    raise ValueError(f"no Linear layer is {str(kind)[:40]!r}")


@contextmanager
def without_deprecation() -> Iterator[None]:
    """Silence PyTorch's deprecation of quantized tensors: nothing else feeds these kernels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _by_row(integers: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    return torch._make_per_channel_quantized_tensor(integers, scale, zero, 0)  # noqa: SLF001 # as above


def _unpack(packed: torch.ScriptObject) -> dict[str, Tensor]:
    """Return the tensors of a packed Linear layer."""
    weight, bias = torch.ops.quantized.linear_unpack(packed)
    scale = (
        torch.tensor(weight.q_scale(), dtype=torch.float64)
        if weight.qscheme() == torch.per_tensor_affine
        else weight.q_per_channel_scales()
    )
    tensors = {"int8": weight.int_repr(), "scale": scale}
    return tensors if bias is None else tensors | {"bias": bias.detach()}


def _positive(scale: Tensor) -> Tensor:
    if not bool((scale > 0).all()):
        raise ValueError("a scale is not above 0")
    return _finite(scale)


def _finite(tensor: Tensor) -> Tensor:
    if not bool(tensor.float().isfinite().all()):  # kernels compute in float32
        raise ValueError("a number is not finite")
    return tensor


def _check_processor(activations: str) -> None:
    """Refuse 8-bit activations where the kernels add pairs of products in 16 bits."""
    isa = machine.describe().isa
    x86 = platform.machine().lower() in {"x86_64", "amd64"}
    if activations == "uint8" and x86 and not any("vnni" in flag for flag in isa):
        raise MissingLibraryError(
            "this variant has 8-bit activations, whose products overflow on an x86 processor "
            "without VNNI. Build it from a recipe with activations.dtype = 'uint7'."
        )
