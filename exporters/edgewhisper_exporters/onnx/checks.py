"""Checks of an exported graph: as a file, and as ONNX Runtime rewrites it on loading."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from edgewhisper_exporters.layers import Grid, Model
from edgewhisper_exporters.onnx.linear import Arithmetic
from edgewhisper_runtime.bundle import GraphRecord
from edgewhisper_runtime.engines import onnx_file
from edgewhisper_runtime.engines.onnx import ENCODER
from edgewhisper_runtime.engines.onnx_session import session_options
from edgewhisper_runtime.errors import QuantizationError

_QUANTIZED = ("MatMulIntegerToFloat", "MatMulNBits")
_OVERHEAD = 0.02  # of a file: names and nodes
_LEAST_OVERHEAD = 65536
_INTEGERS = {"uint8", "int8"}


def check(path: Path) -> GraphRecord:
    """Check one file; return its bytes and its operators, as stored and as optimized on loading.

    Raises BundleError for external data and foreign operators, QuantizationError for a file that
    is larger than its tensors, or whose integers the engine would widen to floats on loading.
    """
    stored = onnx_file.read(path)
    size, tensors = path.stat().st_size, sum(t.bytes for t in stored.tensors.values())
    if size > tensors * (1 + _OVERHEAD) + _LEAST_OVERHEAD:
        raise QuantizationError(
            f"{path} has {size} bytes for {tensors} bytes of tensors: a defect of the export."
        )
    loaded = _optimized(path)
    for kind in _QUANTIZED:
        if loaded.operators[kind] != stored.operators[kind]:
            raise QuantizationError(
                f"{path} has {stored.operators[kind]} {kind}, of which ONNX Runtime leaves "
                f"{loaded.operators[kind]}. Its version is not one that this export was made for."
            )
    if _integer_bytes(loaded) < _integer_bytes(stored):
        raise QuantizationError(
            f"{path}: ONNX Runtime widens quantized weights to floats when it loads them. Its "
            "version is not one that this export was made for."
        )
    return GraphRecord(size, dict(stored.operators), dict(loaded.operators))


def check_quantized(records: Mapping[str, GraphRecord], arithmetic: Arithmetic | None) -> None:
    """Raise QuantizationError unless the graphs have integer operators where the recipe has."""
    counts = {
        name: {kind: record.operators_loaded.get(kind, 0) for kind in _QUANTIZED}
        for name, record in records.items()
    }
    total = sum(sum(of_file.values()) for of_file in counts.values())
    if (total > 0) != (arithmetic is not None):
        raise QuantizationError(f"the exported graphs have {total} quantized operators: {counts}.")
    if arithmetic == "float32" and counts[ENCODER]["MatMulIntegerToFloat"]:
        raise QuantizationError("the recipe multiplies in float32, the exported encoder does not.")


def check_tied(decoder: Path, model: Model) -> None:
    """Raise QuantizationError if a shared token embedding is stored twice."""
    if "proj_out" in model.layers:
        return
    weight = model.layers["model.decoder.embed_tokens"].weight
    vocabulary, width = (weight.codes if isinstance(weight, Grid) else weight).shape
    integers = isinstance(weight, Grid)
    values = sum(
        tensor.bytes * 8 // (weight.bits if isinstance(weight, Grid) else tensor.bits)
        for tensor in onnx_file.read(decoder).tensors.values()
        if vocabulary in tensor.shape and (tensor.dtype in _INTEGERS) == integers
    )
    # zero points are integers too: with the smallest groups, an eighth of the values
    if values > 1.5 * vocabulary * width:
        raise QuantizationError(f"{decoder} holds the token embedding twice.")


def _integer_bytes(contents: onnx_file.Contents) -> int:
    return sum(tensor.bytes for tensor in contents.tensors.values() if tensor.dtype in _INTEGERS)


def _optimized(path: Path) -> onnx_file.Contents:
    """Return the contents of a file after ONNX Runtime's optimizer, with the runtime's options."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as scratch:
        rewritten = Path(scratch) / "optimized.onnx"
        options = session_options(threads=1)
        options.optimized_model_filepath = str(rewritten)
        try:
            onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its own exception classes have no common base
            raise QuantizationError(
                f"ONNX Runtime cannot load the export {path} ({error}). --export none ships the "
                "variant itself."
            ) from error
        return onnx_file.read(rewritten)
