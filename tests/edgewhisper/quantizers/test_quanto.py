"""Quanto variants: what is quantized is the scope, and the file alone brings it back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgewhisper import quantizers
from edgewhisper.checkpoints import Checkpoint
from edgewhisper.quantizers.census import check_scope, summarize, take_census, to_dicts
from edgewhisper.recipes import Recipe, Weights, find_recipe
from edgewhisper_runtime.errors import (
    BundleError,
    MissingLibraryError,
    QuantizationError,
    RecipeError,
)
from logits import first_logits

INT8 = find_recipe("quanto-int8")
WEIGHTS = {
    "int8": Weights("int8", "symmetric", "per-channel"),
    "int4": Weights("int4", "asymmetric", "per-group", 128),
    "int2": Weights("int2", "asymmetric", "per-group", 128),
    "float8_e4m3fn": Weights("float8_e4m3fn", "symmetric", "per-channel"),
    "float8_e5m2": Weights("float8_e5m2", "symmetric", "per-channel"),
}


def float_model(checkpoint: Checkpoint):
    import torch
    from transformers import WhisperForConditionalGeneration

    return WhisperForConditionalGeneration.from_pretrained(checkpoint.path, dtype=torch.float32)


def quantized(checkpoint: Checkpoint, recipe: Recipe):
    import torch

    model = float_model(checkpoint).eval()
    with torch.no_grad():
        quantizers.adapter("quanto").quantize(model, recipe)
    return model


def config_of(checkpoint: Checkpoint):
    from transformers import WhisperConfig

    return WhisperConfig(**checkpoint.config())


@pytest.mark.parametrize("dtype", WEIGHTS)
def test_reloaded_logits_are_bit_equal_and_the_scope_is_the_recipes(
    tiny_en: Checkpoint, speech: list[Path], tmp_path: Path, dtype: str
) -> None:
    adapter, recipe = quantizers.adapter("quanto"), replace(INT8, weights=WEIGHTS[dtype])
    model = quantized(tiny_en, recipe)
    adapter.save(model, tmp_path / "weights.safetensors")
    loaded = adapter.load(tmp_path / "weights.safetensors", config_of(tiny_en))

    rows = take_census(loaded, adapter.describe)
    assert rows == take_census(model, adapter.describe)
    check_scope(rows, recipe)
    granularity = "per-group 128" if dtype in {"int4", "int2"} else "per-channel"
    assert summarize(to_dicts(rows)) == f"65 of 65 Linear layers, {dtype} {granularity}"

    logits = [first_logits(either, speech[0]) for either in (model, loaded)]
    np.testing.assert_array_equal(*logits)


def test_scope_is_honoured_part_by_part(tiny_en: Checkpoint) -> None:
    adapter = quantizers.adapter("quanto")
    for part in ("encoder.feed_forward", "decoder.attention"):
        recipe = replace(INT8, scope=(part,))
        rows = take_census(quantized(tiny_en, recipe), adapter.describe)
        check_scope(rows, recipe)
        assert {row.part for row in rows if row.quantized} == {part}
        with pytest.raises(QuantizationError):
            check_scope(rows, INT8)


def test_size_is_as_computed_from_the_architecture(
    tiny_en: Checkpoint, base: Checkpoint, tmp_path: Path
) -> None:
    for checkpoint in (tiny_en, base):
        path = tmp_path / f"{checkpoint.name}.safetensors"
        model = quantized(checkpoint, INT8)
        quantizers.adapter("quanto").save(model, path)
        config = config_of(checkpoint)
        width, vocabulary = config.d_model, config.vocab_size
        layers = config.encoder_layers + config.decoder_layers
        in_linear = layers * 12 * width**2 + config.decoder_layers * 4 * width**2
        floats = sum(p.numel() for p in float_model(checkpoint).parameters()) - in_linear
        expected = 4 * floats + in_linear + vocabulary * width
        assert path.stat().st_size == pytest.approx(expected, rel=0.01)


def test_a_zero_effect_is_an_error(tiny_en: Checkpoint) -> None:
    rows = take_census(float_model(tiny_en), quantizers.adapter("quanto").describe)
    with pytest.raises(QuantizationError, match="is not quantized"):
        check_scope(rows, INT8)
    with pytest.raises(QuantizationError, match="nothing of output"):
        check_scope([row for row in rows if row.part == "other"], replace(INT8, scope=("output",)))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (replace(INT8, weights=Weights("int2")), "method = 'asymmetric'.*group_size = 128"),
        (replace(INT8, weights=Weights("int8", "asymmetric", "per-channel")), "'symmetric'"),
        (replace(INT8, scope=("embedding",)), "embedding; quanto quantizes Linear layers only"),
        (replace(INT8, scheme="static", calibration="dev-clean"), "weights only"),
    ],
)
def test_what_quanto_cannot_do_is_refused(
    tiny_en: Checkpoint, recipe: Recipe, message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        quantized(tiny_en, recipe)


def test_damaged_files_are_refused(tiny_bundle: Path, tiny_en: Checkpoint, tmp_path: Path) -> None:
    from safetensors.torch import load_file, safe_open, save_file

    adapter, config = quantizers.adapter("quanto"), config_of(tiny_en)
    original = tiny_bundle / "weights.safetensors"
    tensors = load_file(original)
    with safe_open(original, "pt") as file:
        metadata = file.metadata()
    path = tmp_path / "weights.safetensors"

    name = "model.decoder.layers.0.fc1.weight._scale"
    save_file({n: t for n, t in tensors.items() if n != name}, path, metadata)
    with pytest.raises(BundleError, match="lacks"):
        adapter.load(path, config)
    save_file(tensors | {"more": tensors[name].clone()}, path, metadata)
    with pytest.raises(BundleError, match="holds more"):
        adapter.load(path, config)
    save_file(tensors, path, {"quantization_map": "{"})
    with pytest.raises(BundleError, match="quantization map"):
        adapter.load(path, config)
    path.write_bytes(original.read_bytes()[:1000])
    with pytest.raises(BundleError, match="not a safetensors file"):
        adapter.load(path, config)


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(quantizers._IMPORTS, "quanto", "a_library_nobody_has")
    with pytest.raises(MissingLibraryError, match=r"pip install 'edgewhisper\[quanto\]'"):
        quantizers.adapter("quanto")
