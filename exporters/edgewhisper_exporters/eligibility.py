"""Which recipes an export can carry over exactly, and why it cannot carry the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

from edgewhisper_runtime.errors import RecipeError

Format = Literal["onnx", "pytorch"]  # the leaner first

_FLOATS = {"float32", "float16"}
_GRIDS = {"edgewhisper", "quanto", "hqq", "bitsandbytes"}
_BITS = {"int8", "int4"}
_SMALLEST_BLOCK = 16
_ACTIVATIONS = {("float32", "none"), ("int8", "per-row")}


def why_not(recipe: Mapping[str, Any], to_format: Format) -> str | None:
    """Return why a recipe, as a mapping of its keys, has no such export; None where it has one."""
    reasons = _pytorch_reasons if to_format == "pytorch" else _onnx_reasons
    return next(reasons(recipe), None)


def check(recipe: Mapping[str, Any], to_format: Format) -> None:
    """Raise RecipeError where a recipe has no such export."""
    if reason := why_not(recipe, to_format):
        raise RecipeError(
            f"{recipe['name']} cannot be exported to {to_format}: {reason}. `edgewhisper recipes` "
            "shows what can; --export none ships the variant itself, for the host toolkit."
        )


def leanest(recipe: Mapping[str, Any]) -> Format | None:
    """Return the export that needs least on the device; None where a recipe has none."""
    return next((one for one in get_args(Format) if why_not(recipe, one) is None), None)


def _pytorch_reasons(recipe: Mapping[str, Any]) -> Iterator[str]:
    if recipe["library"] != "pytorch":
        yield f"{recipe['library']}'s layers are not PyTorch's own"


def _onnx_reasons(recipe: Mapping[str, Any]) -> Iterator[str]:
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
            yield f"ONNX Runtime multiplies blocks of 8- or 4-bit integers, not {weights['dtype']}"
        group = weights["group_size"]
        if group and group & -group < _SMALLEST_BLOCK:
            yield f"ONNX Runtime's blocks are powers of two from {_SMALLEST_BLOCK} on, not {group}"
        if weights["axis"] != 1:
            yield "groups must run along a layer's inputs (axis 1)"
    if library not in _GRIDS:
        yield f"{library}'s int8 layers round their inputs in a way that no kernel does"
    if (activations["dtype"], activations["granularity"]) not in _ACTIVATIONS:
        yield f"no kernel takes activations as {activations['dtype']} {activations['granularity']}"
