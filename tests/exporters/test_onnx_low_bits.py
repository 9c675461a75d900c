"""Weights of 2, 3 and 4 bits as ONNX Runtime multiplies and looks them up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgewhisper import quantizers
from edgewhisper.export import take_census, to_model
from edgewhisper.recipes import find_recipe
from edgewhisper.recipes.schema import Method, Override, Weights
from edgewhisper_exporters import onnx, packing
from edgewhisper_runtime.engines import onnx_file
from edgewhisper_runtime.engines.onnx import DECODER, ENCODER, OnnxBackend
from variants import LITTLE, quantize, random_model

FLOAT_INPUTS = find_recipe("onnx-int8-weights")


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_codes_come_back_from_their_bytes(bits: int) -> None:
    import torch

    from edgewhisper.quantizers.layers import unpacked

    codes = np.random.default_rng(0).integers(0, 1 << bits, (5, 3, 32), np.uint8)
    packed = packing.pack(codes, bits)
    assert packed.nbytes * 8 == codes.size * bits
    np.testing.assert_array_equal(unpacked(torch.from_numpy(packed), bits).numpy(), codes)


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("method", ["symmetric", "asymmetric"])
def test_the_graphs_compute_what_the_variant_computes(
    tmp_path: Path, bits: int, method: Method
) -> None:
    """Every layer, the embedding and the convolutions too, in the file and as the engine runs it."""
    import torch

    from edgewhisper.backend import TorchBackend

    weights = Weights(f"int{bits}", method, "per-group", 16)  # type: ignore[arg-type] # a dtype
    recipe = replace(FLOAT_INPUTS, weights=weights)
    model = quantize(random_model(LITTLE), recipe)
    records = onnx.export(to_model(model, quantizers.adapter("edgewhisper")), "float32", tmp_path)
    assert records[DECODER].operators["MatMulNBits"] == 7
    stored = [
        tensor
        for name, tensor in onnx_file.read_exported(tmp_path / DECODER).tensors.items()
        if name.endswith(f"embed_tokens.int{bits}")
    ]
    assert [tensor.bytes for tensor in stored] == [640 * 128 * bits // 8]
    features = np.random.default_rng(0).normal(size=(2, 80, 200)).astype(np.float32)
    tokens = np.array([[3, 1, 4], [1, 5, 9]])
    logits = []
    for backend in (TorchBackend(model), OnnxBackend(tmp_path / ENCODER, tmp_path / DECODER)):
        cache = backend.start(backend.encode(features))
        logits.append(backend.step(tokens, cache))
    np.testing.assert_allclose(*logits, atol=1e-4)
    assert torch.isfinite(torch.from_numpy(logits[0])).all()
