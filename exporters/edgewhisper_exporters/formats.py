"""The formats that come with EdgeWhisper: see `eligibility.ExportFormat`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from edgewhisper_exporters.layers import Variant
    from edgewhisper_runtime.bundle import GraphRecord

_FLOATS = {"float32", "float16"}
_BITS = {"int8", "int4", "int3", "int2"}
_SMALLEST_BLOCK = 16
_ACTIVATIONS = {("float32", "none"), ("int8", "per-row")}


class Onnx:
    """Two graphs for ONNX Runtime, which need no PyTorch."""

    distributions = ("onnx", "onnxruntime")
    layout = 4
    engine_megabytes = 100
    tensors_are_cast = True

    def why_not(self, recipe: Mapping[str, Any], no_integers: str | None) -> str | None:
        """Return the first reason, if there is one."""
        return next(_onnx_reasons(recipe, no_integers), None)

    def export(self, variant: Variant, directory: Path) -> dict[str, GraphRecord]:
        """Write encoder.onnx and decoder.onnx."""
        from edgewhisper_exporters import onnx

        rounds = variant.recipe["activations"]["dtype"] == "int8"
        return onnx.export(variant.model(), "int8" if rounds else "float32", directory)

    def stored(self, directory: Path) -> Iterable[Path]:
        """Return both files."""
        from edgewhisper_runtime.engines import onnx

        return [directory / onnx.ENCODER, directory / onnx.DECODER]


class Pytorch:
    """A variant's own tensors in one file, for the runtime's PyTorch engine."""

    distributions = ("torch", "safetensors")
    layout = 1
    engine_megabytes = 700
    tensors_are_cast = False

    def why_not(self, recipe: Mapping[str, Any], _no_integers: str | None) -> str | None:
        """Return a reason for every other library."""
        if recipe["library"] != "pytorch":
            return f"{recipe['library']}'s layers are not PyTorch's own"
        return None

    def export(self, variant: Variant, directory: Path) -> dict[str, GraphRecord]:
        """Write one safetensors file."""
        from edgewhisper_exporters import pytorch

        config = variant.network.config
        heads = {
            "encoder": config.encoder_attention_heads,
            "decoder": config.decoder_attention_heads,
        }
        pytorch.export(variant.weights, heads, variant.backend, config.num_mel_bins, directory)
        return {}

    def stored(self, directory: Path) -> nn.Module:
        """Return the engine's module."""
        from edgewhisper_runtime.engines import pytorch_model
        from edgewhisper_runtime.engines.pytorch import FILE

        return pytorch_model.read(directory / FILE)


def _onnx_reasons(recipe: Mapping[str, Any], no_integers: str | None) -> Iterator[str]:
    library, activations = recipe["library"], recipe["activations"]
    formats = [recipe["weights"], *(override["weights"] for override in recipe["overrides"])]
    if not recipe["scope"]:
        dtype = recipe["weights"]["dtype"]
        if dtype not in _FLOATS:
            yield f"ONNX Runtime has no {dtype} kernels for CPUs"
        return
    if recipe["scheme"] == "static":
        yield f"{library}'s calibrated activations are rounded between layers, which no kernel does"
    for weights in formats:
        if weights["dtype"] not in _BITS:
            yield f"ONNX Runtime multiplies blocks of 8- to 2-bit integers, not {weights['dtype']}"
        group = weights["group_size"]
        if group and group & -group < _SMALLEST_BLOCK:
            yield f"ONNX Runtime's blocks are powers of two from {_SMALLEST_BLOCK} on, not {group}"
        if weights["axis"] != 1:
            yield "groups must run along a layer's inputs (axis 1)"
    if no_integers is not None:
        yield no_integers
    if (activations["dtype"], activations["granularity"]) not in _ACTIVATIONS:
        yield f"no kernel takes activations as {activations['dtype']} {activations['granularity']}"
