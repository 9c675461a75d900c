"""PyTorch's dynamic int8: the bits it uses, and where it is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewhisper.backend import TorchBackend
from edgewhisper.checkpoints import Checkpoint
from edgewhisper.quantizers import pytorch
from edgewhisper.recipes import Recipe, find_recipe
from edgewhisper.recipes.schema import Activations, Weights
from edgewhisper_runtime import audio, load
from edgewhisper_runtime.audio import features
from edgewhisper_runtime.engines import pytorch_layers
from edgewhisper_runtime.errors import BundleError, MissingLibraryError, RecipeError
from edgewhisper_runtime.measure import machine
from variants import LITTLE, float_model, quantize, random_model, stage

INT8 = find_recipe("pytorch-int8")


def test_eight_bits_are_closer_than_seven(tiny_en: Checkpoint, speech: list[Path]) -> None:
    clip = audio.load(speech[0])[: 5 * audio.SAMPLE_RATE]
    mels = features.log_mel(clip, 80, 5 * features.FRAMES_PER_SECOND)[None]
    seven = replace(INT8, activations=Activations("uint7", "per-tensor"))
    models = (float_model(tiny_en), *(quantize(float_model(tiny_en), r) for r in (INT8, seven)))
    exact, *found = (TorchBackend(model).encode(mels).numpy() for model in models)
    errors = [np.abs(encoded - exact).mean() for encoded in found]
    assert 0 < errors[0] < errors[1]


@pytest.mark.filterwarnings("ignore")  # PyTorch's interface is deprecated, as are its tensors
@pytest.mark.parametrize("name", ["pytorch-int8", "pytorch-int8-per-tensor"])
def test_layers_are_those_that_pytorch_would_make(name: str) -> None:
    import torch
    from torch.ao import quantization
    from torch.ao.nn.quantized.dynamic import Linear

    recipe = find_recipe(name)
    configuration = (
        quantization.per_channel_dynamic_qconfig
        if recipe.weights.granularity == "per-channel"
        else quantization.default_dynamic_qconfig
    )
    layer = random_model(LITTLE).model.encoder.layers[0].fc1
    theirs: Any = quantization.quantize_dynamic(
        torch.nn.Sequential(layer), {"0": configuration}, dtype=torch.qint8
    )[0]
    assert isinstance(theirs, Linear)
    ours = quantize(random_model(LITTLE), recipe).model.encoder.layers[0].fc1
    assert ours.stored().tensors["int8"].equal(theirs.weight().int_repr())
    if recipe.activations.dtype == "uint7":  # which is what theirs does
        hidden = torch.randn(4, 128)
        assert ours(hidden).equal(theirs(hidden))


@pytest.mark.parametrize(
    "recipe",
    [
        replace(INT8, weights=Weights("int4", "symmetric", "per-channel")),
        replace(INT8, weights=Weights("int8", "asymmetric", "per-channel")),
        replace(INT8, activations=Activations("float32")),
        replace(INT8, scope=("embedding",)),
        replace(find_recipe("bf16"), activations=Activations("float32")),
        replace(INT8, scope=("convolution",)),
    ],
)
def test_what_it_cannot_do_is_refused(recipe: Recipe) -> None:
    with pytest.raises(RecipeError):
        quantize(random_model(LITTLE), recipe)


def test_ranges_are_those_of_the_calibration_data() -> None:
    import torch

    model = random_model(LITTLE)
    inputs = torch.linspace(-3, 5, 128)[None]

    def calibrate() -> None:
        for module in model.modules():
            if isinstance(module, torch.nn.Linear) and module.in_features == 128:
                module(inputs)

    static = replace(find_recipe("pytorch-int8-static"), scope=("encoder.fc1", "output"))
    quantize(model, static, calibrate)
    layer = model.model.encoder.layers[0].fc1
    assert layer.input_scale == pytest.approx(8 / 255, rel=0.02)
    assert layer.input_zero == pytest.approx(255 * 3 / 8, abs=2)


def test_eight_bits_are_refused_where_they_overflow(
    tiny_en: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = stage(tiny_en, INT8)
    described = replace(machine.describe(), isa=("avx2", "fma"))
    monkeypatch.setattr(machine, "describe", lambda: described)
    monkeypatch.setattr(pytorch_layers.platform, "machine", lambda: "x86_64")
    with pytest.raises(MissingLibraryError, match="without VNNI"):
        load(directory)


def test_damaged_layers_are_refused(tiny_en: Checkpoint, tmp_path: Path) -> None:
    from safetensors.torch import load_file, safe_open, save_file
    from transformers import WhisperConfig

    original = stage(tiny_en, INT8) / "weights.safetensors"
    tensors = load_file(original)
    with safe_open(original, "pt") as file:
        metadata = file.metadata()
    path, config = tmp_path / "weights.safetensors", WhisperConfig(**tiny_en.config())
    name = "model.encoder.layers.0.fc1"
    for damage in (
        {key: value for key, value in tensors.items() if key != f"{name}.scale"},
        tensors | {f"{name}.int8": tensors[f"{name}.int8"][:-1].clone()},
        tensors | {f"{name}.bias": tensors[f"{name}.bias"][:-1].clone()},
        {key: value for key, value in tensors.items() if key != "model.encoder.conv1.weight"},
    ):
        save_file(damage, path, metadata)
        with pytest.raises(BundleError):
            pytorch.load(path, config)
    save_file(tensors, path, {})
    with pytest.raises(BundleError):
        pytorch.load(path, config)
