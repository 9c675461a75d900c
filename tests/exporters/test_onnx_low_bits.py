"""Weights of 2, 3 and 4 bits as ONNX Runtime multiplies and looks them up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewhisper import quantizers
from edgewhisper.backend import TorchBackend
from edgewhisper.export import to_model
from edgewhisper.recipes import Recipe, find_recipe
from edgewhisper.recipes.schema import Method, Weights
from edgewhisper_exporters import onnx, packing
from edgewhisper_runtime.bundle import GraphRecord
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
    """Every layer, the embedding and the convolutions too, as stored and as the engine runs it."""
    weights = Weights(f"int{bits}", method, "per-group", 16)  # type: ignore[arg-type] # a dtype
    recipe = replace(FLOAT_INPUTS, weights=weights)
    model = quantize(random_model(LITTLE), recipe)
    loaded = compare(model, recipe, tmp_path)[DECODER].operators_loaded
    assert loaded["MatMulNBits"] == 7
    # 3 bits are unpacked when the file is loaded, but for the rows that a lookup reads
    assert loaded.get("Split", 0) == (bits == 3)
    stored = [
        tensor
        for name, tensor in onnx_file.read_exported(tmp_path / DECODER).tensors.items()
        if name.endswith(f"embed_tokens.int{bits}")
    ]
    assert [tensor.bytes for tensor in stored] == [640 * 128 * bits // 8]


@pytest.mark.parametrize("name", ["hqq-int3-g64", "hqq-int2-g16", "quanto-int2"])
def test_other_libraries_integers_too(tmp_path: Path, name: str) -> None:
    recipe = find_recipe(name)
    compare(quantize(random_model(LITTLE), recipe), recipe, tmp_path)


def compare(model: Any, recipe: Recipe, directory: Path) -> dict[str, GraphRecord]:
    """Export a variant; check that both give the same logits, and return the graphs' records."""
    adapter = quantizers.adapter(recipe.library)
    records = onnx.export(to_model(model, adapter), "float32", directory)
    features = np.random.default_rng(0).normal(size=(2, 80, 200)).astype(np.float32)
    tokens = np.array([[3, 1, 4], [1, 5, 9]])
    exported = OnnxBackend(directory / ENCODER, directory / DECODER)
    logits = [
        backend.step(tokens, backend.start(backend.encode(features)))
        for backend in (TorchBackend(model), exported)
    ]
    assert np.isfinite(logits[0]).all()
    np.testing.assert_allclose(*logits, atol=1e-4)
    return records
