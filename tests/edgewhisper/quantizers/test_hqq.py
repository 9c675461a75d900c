"""HQQ: every bit width, group size and axis it has, and what does not fit."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from edgewhisper.quantizers import hqq
from edgewhisper.quantizers.census import check_scope, take_census
from edgewhisper.recipes import Recipe, find_recipe
from edgewhisper.recipes.schema import DType, Weights
from edgewhisper_runtime.errors import BundleError, RecipeError
from variants import LITTLE, quantize, random_model

INT4 = find_recipe("hqq-int4-g64")


def weights(bits: int, group: int, axis: int) -> Weights:
    dtypes: dict[int, DType] = {8: "int8", 4: "int4", 3: "int3", 2: "int2", 1: "int1"}
    return Weights(dtypes[bits], "asymmetric", "per-group", group, axis)


@pytest.mark.parametrize(
    ("bits", "group", "axis"), list(product((8, 4, 3, 2, 1), (16, 32, 64, 128), (0, 1)))
)
def test_every_bit_width_group_and_axis_comes_back(
    tmp_path: Path, bits: int, group: int, axis: int
) -> None:
    from transformers import WhisperConfig

    recipe = replace(INT4, weights=weights(bits, group, axis))
    model = quantize(random_model(LITTLE), recipe)
    path = tmp_path / "weights.safetensors"
    hqq.save(model, path)
    loaded = hqq.load(path, WhisperConfig(**LITTLE))
    rows = take_census(loaded, hqq.describe)
    check_scope(rows, recipe)
    for name in ("model.encoder.layers.0.fc1", "proj_out"):
        values = [either.get_submodule(name).dequantize() for either in (model, loaded)]
        np.testing.assert_array_equal(*values)


def test_a_loaded_model_moves_to_another_device_whole(tmp_path: Path) -> None:
    import torch
    from transformers import WhisperConfig

    path = tmp_path / "weights.safetensors"
    hqq.save(quantize(random_model(LITTLE), INT4), path)
    # A layer multiplies on the meta device, which every machine has, if nothing stayed behind.
    layer = hqq.load(path, WhisperConfig(**LITTLE)).to("meta").model.encoder.layers[0].fc1
    with torch.no_grad():
        output = layer(torch.zeros((1, layer.in_features), device="meta"))
    assert output.device.type == "meta"


def test_more_bits_are_closer() -> None:
    float_weight = random_model(LITTLE).proj_out.weight.detach()
    errors = []
    for bits in (8, 4, 3, 2, 1):
        model = quantize(random_model(LITTLE), replace(INT4, weights=weights(bits, 64, 1)))
        errors.append((model.proj_out.dequantize() - float_weight).abs().mean().item())
    assert errors == sorted(errors)
    assert errors[0] < 0.05 * errors[-1]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (replace(INT4, weights=weights(4, 48, 1)), "groups of 48 along axis 1 do not fit"),
        (replace(INT4, weights=weights(1, 4, 0)), "at 1 bits"),
        (replace(INT4, weights=weights(4, 4, 1)), "groups of 4 along axis 1"),
        (replace(INT4, weights=Weights("int8", "symmetric", "per-channel")), "'asymmetric'"),
        (replace(INT4, weights=Weights("nf4", "asymmetric", "per-group", 64)), "'int8', 'int4'"),
        (replace(INT4, scope=("embedding",)), "hqq quantizes Linear layers only"),
        (replace(INT4, scheme="static"), "weights only"),
    ],
)
def test_what_hqq_cannot_do_is_refused(recipe: Recipe, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        quantize(random_model(LITTLE), recipe)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, safe_open, save_file
    from transformers import WhisperConfig

    config, path = WhisperConfig(**LITTLE), tmp_path / "weights.safetensors"
    hqq.save(quantize(random_model(LITTLE), INT4), path)
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    name = "model.encoder.layers.0.fc1"
    for damage in (
        {key: value for key, value in tensors.items() if key != f"{name}.scale"},
        tensors | {f"{name}.packed": tensors[f"{name}.packed"][:-1].clone()},
        tensors | {f"{name}.scale": tensors[f"{name}.scale"].double()},
        tensors | {f"{name}.more": tensors[f"{name}.scale"].clone()},
    ):
        save_file(damage, path, metadata)
        with pytest.raises(BundleError, match=r"Build again|no place"):
            hqq.load(path, config)
    save_file(tensors, path, {"layers": '{"model.encoder.layers.0.fc9": {}}'})
    with pytest.raises(BundleError, match="unusable layers"):
        hqq.load(path, config)
