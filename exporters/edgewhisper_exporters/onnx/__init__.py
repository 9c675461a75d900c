"""Whisper for ONNX Runtime: two graphs, written operator by operator.

The graphs are built from the weights instead of traced from PyTorch: every fused and quantized
operator is there because it was put there, and no optimizer has to find it.
"""

from __future__ import annotations

from pathlib import Path

from edgewhisper_exporters.layers import Grid, Model
from edgewhisper_exporters.onnx import checks, decoder, encoder
from edgewhisper_exporters.onnx.linear import Arithmetic
from edgewhisper_runtime.bundle import GraphRecord, atomic
from edgewhisper_runtime.engines.onnx import DECODER, ENCODER


def export(model: Model, arithmetic: Arithmetic, directory: Path) -> dict[str, GraphRecord]:
    """Write encoder.onnx and decoder.onnx, and check them; return what each holds.

    `arithmetic` is what quantized layers multiply in: "float32", or "int8" by rows of their
    inputs. Raises QuantizationError when a file, or what ONNX Runtime makes of it, is not what
    was asked for.
    """
    graphs = {
        ENCODER: encoder.build(model, arithmetic),
        DECODER: decoder.build(model, arithmetic),
    }
    found = {}
    for name, graph in graphs.items():
        path = directory / name
        with atomic.storage_errors(path):
            path.write_bytes(graph.model().SerializeToString())
        found[name] = checks.check(path)
    quantized = any(isinstance(layer.weight, Grid) for layer in model.layers.values())
    checks.check_quantized(found, arithmetic if quantized else None)
    checks.check_tied(directory / DECODER, model)
    return found
