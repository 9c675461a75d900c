"""The scope census: the layers of a saved artefact, counted from its loaded tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgewhisper.quantizers.scope import part_of
from edgewhisper_runtime.bundle import CensusRow
from edgewhisper_runtime.engines import onnx_file
from edgewhisper_runtime.engines.onnx_file import Tensor
from edgewhisper_runtime.errors import QuantizationError

if TYPE_CHECKING:
    from torch import nn

    from edgewhisper.recipes import Recipe

_EMBEDDING, _OUTPUT = "model.decoder.embed_tokens", "proj_out"
# "fc1.int4", "fc1.scale"; of 8 bits in two planes "fc1.int8.high.int4", "fc1.int8.low.offset"
_ONNX_NAME = re.compile(
    r"(?P<layer>.+?)\.(int8\.(high|low)\.(?!int4))?"
    r"(?P<kind>int8|int4|int3|int2|weight|scale|zeros?|offset|bias|positions)(\..*)?"
)
# The layer class of the parts that are not Linear: a library's own class has another name.
_CLASSES = {"embedding": "Embedding", "convolution": "Conv1d"}


@dataclass(frozen=True)
class WeightFormat:
    """How a weight tensor is stored.

    `bytes` include its scales and zero points; they are 0 where another module stores the tensor.
    """

    dtype: str
    granularity: str
    bytes: int


def take_census(
    model: nn.Module, describe: Callable[[nn.Module], WeightFormat | None]
) -> tuple[CensusRow, ...]:
    """Count every layer; a shared weight counts its bytes at the first module that has it."""
    seen: set[int] = set()
    rows = []
    for name, module in model.named_modules():
        quantized = describe(module)
        stored = quantized or _float_format(module, seen)
        if stored is None:
            continue
        part, kind = part_of(name), _class_name(module)
        rows.append(_row(part, kind, stored, quantized=quantized is not None))
    return _summed(rows)


def take_onnx_census(files: Iterable[Path]) -> tuple[CensusRow, ...]:
    """Count every layer of exported graphs by their tensors, which are named after the layers.

    Queries, keys and values of the decoder are one tensor. The output layer has none where it is
    the token embedding.
    """
    layers: dict[str, dict[str, list[Tensor]]] = {}
    for path in files:
        for name, tensor in onnx_file.read(path).tensors.items():
            if match := _ONNX_NAME.fullmatch(name):
                kinds = layers.setdefault(match["layer"], {})
                kinds.setdefault(match["kind"], []).append(tensor)
    if _OUTPUT not in layers and _EMBEDDING in layers:
        layers[_OUTPUT] = layers[_EMBEDDING]
    shared = layers.get(_OUTPUT) is layers.get(_EMBEDDING)
    rows = []
    for name, kinds in layers.items():
        part = part_of(name.replace(".qkv", ".q_proj"))
        integers = next((kind for kind in ("int8", "int4", "int3", "int2") if kind in kinds), None)
        if part is None and "weight" not in kinds:
            continue
        dtype, grain = (
            (integers, _onnx_grain(kinds, integers))
            if integers
            else (kinds["weight"][0].dtype, "none")
        )
        size = sum(t.bytes for kind, ts in kinds.items() if kind != "bias" for t in ts)
        stored = WeightFormat(dtype, grain, 0 if shared and name == _OUTPUT else size)
        row = _row(part, "LayerNorm", stored, quantized=integers is not None)
        rows.append(replace(row, count=3) if name.endswith(".qkv") else row)
    return _summed(rows)


def _row(part: str | None, kind: str, stored: WeightFormat, *, quantized: bool) -> CensusRow:
    """Return the row of one layer; `kind` is its class where it belongs to no part."""
    module = _CLASSES.get(part, "Linear") if part else kind
    return CensusRow(
        part or "other", module, stored.dtype, stored.granularity, quantized, 1, stored.bytes
    )


def _summed(rows: Iterable[CensusRow]) -> tuple[CensusRow, ...]:
    """Merge rows that differ in count and bytes only, and return them in order."""
    sums: dict[CensusRow, tuple[int, int]] = {}
    for row in rows:
        key = replace(row, count=0, bytes=0)
        count, size = sums.get(key, (0, 0))
        sums[key] = (count + row.count, size + row.bytes)
    summed = [replace(key, count=count, bytes=size) for key, (count, size) in sums.items()]
    return tuple(sorted(summed, key=astuple))


def _onnx_grain(kinds: dict[str, list[Tensor]], integers: str) -> str:
    outputs, *groups = kinds["scale"][0].shape
    inputs = 8 * sum(tensor.bytes for tensor in kinds[integers]) // int(integers[3:]) // outputs
    count = groups[0] if groups else 1
    return "per-channel" if count == 1 else f"per-group {inputs // count}"


def check_scope(rows: Sequence[CensusRow], recipe: Recipe) -> None:
    """Raise QuantizationError unless exactly the recipe's scope is quantized, in its format."""
    for row in rows:
        if row.quantized != (row.part in recipe.scope):
            state = "is" if row.quantized else "is not"
            raise QuantizationError(
                f"{row.count} {row.module} weights of {row.part} {state} quantized, against the "
                f"scope of {recipe.name}. The library did not do what the recipe says."
            )
        if not recipe.quantizes and row.dtype != recipe.weights.dtype:
            raise QuantizationError(
                f"{row.count} {row.module} weights of {row.part} are {row.dtype}, not "
                f"{recipe.weights.dtype} as {recipe.name} says."
            )
        weights = recipe.weights_of(row.part)
        if row.quantized and (row.dtype, row.granularity) != (weights.dtype, weights.grain):
            raise QuantizationError(
                f"{row.count} {row.module} weights of {row.part} are {row.dtype} "
                f"{row.granularity}, "
                f"not {weights.dtype} {weights.grain} as {recipe.name} says."
            )
    parts = {row.part for row in rows if row.quantized}
    if missing := set(recipe.scope) - parts:
        raise QuantizationError(f"{recipe.name} quantized nothing of {', '.join(sorted(missing))}.")


def summarize(rows: Sequence[CensusRow]) -> str:
    """Return one line such as "97 of 97 Linear layers, int8 per-channel"."""
    lines = []
    for kind in ("Linear", "Embedding", "Conv1d"):
        of_kind = [row for row in rows if row.module == kind and row.part != "other"]
        quantized = [row for row in of_kind if row.quantized]
        if quantized:
            formats = sorted({f"{row.dtype} {row.granularity}" for row in quantized})
            counts = (sum(row.count for row in group) for group in (quantized, of_kind))
            lines.append("{} of {} {} layers, ".format(*counts, kind) + " and ".join(formats))
    return "; ".join(lines) or "nothing quantized"


def _class_name(module: nn.Module) -> str:
    """Return the name of the torch class of a module, or of its base class in torch."""
    return next(cls.__name__ for cls in type(module).__mro__ if cls.__module__.startswith("torch."))


def _float_format(module: nn.Module, seen: set[int]) -> WeightFormat | None:
    """Return the format of a module's own float weight, if it has one; no bytes if in `seen`."""
    weight = dict(module.named_parameters(recurse=False)).get("weight")
    if weight is None:
        return None
    size = 0 if weight.data_ptr() in seen else weight.numel() * weight.element_size()
    seen.add(weight.data_ptr())
    return WeightFormat(str(weight.dtype).removeprefix("torch."), "none", size)
