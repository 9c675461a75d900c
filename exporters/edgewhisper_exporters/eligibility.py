"""Which recipes an export can carry over exactly, and why it cannot carry the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

Format = Literal["onnx"]

_FLOATS = {"float32", "float16"}
_GRIDS = {"edgewhisper", "quanto", "hqq", "bitsandbytes"}
_BITS = {"int8", "int4"}
_ACTIVATIONS = {("float32", "none"), ("int8", "per-row")}


def why_not(recipe: Mapping[str, Any]) -> str | None:
    """Return why a recipe, as a mapping of its keys, has no ONNX export; None where it has one."""
    return next(_reasons(recipe), None)


def _reasons(recipe: Mapping[str, Any]) -> Iterator[str]:
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
        if weights["axis"] != 1:
            yield "groups must run along a layer's inputs (axis 1)"
    if library not in _GRIDS:
        yield f"{library}'s int8 layers round their inputs in a way that no kernel does"
    if (activations["dtype"], activations["granularity"]) not in _ACTIVATIONS:
        yield f"no kernel takes activations as {activations['dtype']} {activations['granularity']}"
