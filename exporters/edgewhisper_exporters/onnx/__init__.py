"""Whisper for ONNX Runtime: two graphs, written operator by operator.

The graphs are built from the weights instead of traced from PyTorch: fused and quantized operators
are written directly, so that no optimizer has to detect them.
"""

from __future__ import annotations

from pathlib import Path

from edgewhisper_exporters.layers import Grid, Model
from edgewhisper_exporters.onnx import checks, decoder, encoder
from edgewhisper_exporters.onnx.linear import Arithmetic
from edgewhisper_runtime.bundle import GraphRecord, atomic
from edgewhisper_runtime.engines.onnx import DECODER, ENCODER


def export(model: Model, arithmetic: Arithmetic, directory: Path) -> dict[str, GraphRecord]:
    """Write encoder.onnx and decoder.onnx, and check them; return the record of each.

    `arithmetic` is the type in which quantized layers multiply: "float32", or "int8" with one scale
    for each row of their inputs. Raises QuantizationError when a file, as stored or as ONNX Runtime
    rewrites it, is not as requested.
    """
    graphs = {
        ENCODER: encoder.build(model, arithmetic),
        DECODER: decoder.build(model, arithmetic),
    }
    records = {}
    for name, graph in graphs.items():
        path = directory / name
        with atomic.storage_errors(path):
            path.write_bytes(graph.model().SerializeToString())
        records[name] = checks.check(path)
    quantized = any(isinstance(layer.weight, Grid) for layer in model.layers.values())
    checks.check_quantized(records, arithmetic if quantized else None)
    checks.check_tied(directory / DECODER, model)
    return records
