"""Quanto variants: what is quantized is the scope, and the file alone brings it back."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgewhisper import quantizers
from edgewhisper.checkpoints import Checkpoint
from edgewhisper.quantizers.census import check_scope, take_census
from edgewhisper.recipes import Recipe, Weights, find_recipe
from edgewhisper.recipes.schema import Activations
from edgewhisper_runtime.errors import (
    BundleError,
    MissingLibraryError,
    QuantizationError,
    RecipeError,
)
from logits import first_logits
from variants import config_of, float_model, quantize

INT8 = find_recipe("quanto-int8")


def test_calibration_decides_what_stays_quantized(
    tiny_en: Checkpoint, speech: list[Path], tmp_path: Path
) -> None:
    """Which outputs stay quantized is found by calibration and must come back from the file."""
    recipe = find_recipe("quanto-int8-static-int8")
    adapter = quantizers.adapter("quanto")
    model = checkpoint_model = float_model(tiny_en)
    quantize(model, recipe, lambda: first_logits(checkpoint_model, speech[1]))
    adapter.save(model, tmp_path / "weights.safetensors")
    loaded = adapter.load(tmp_path / "weights.safetensors", config_of(tiny_en))
    hooks = [
        {name: len(module._forward_hooks) for name, module in either.named_modules()}
        for either in (model, loaded)
    ]
    assert hooks[0] == hooks[1]
    assert 0 < sum(hooks[0].values()) < 65
    logits = [first_logits(either, speech[0]) for either in (model, loaded)]
    np.testing.assert_array_equal(*logits)


def test_nothing_is_compiled(
    tiny_en: Checkpoint, speech: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unpacking 4-bit codes needs no compiler, and leaves no lock behind."""
    from optimum.quanto.library.extensions import extension

    monkeypatch.setattr(extension, "load", None)  # what would compile
    monkeypatch.setattr(extension.get_extension("quanto_cpp"), "_lib", None)
    model = quantize(float_model(tiny_en), find_recipe("quanto-int4"))
    assert np.isfinite(first_logits(model, speech[0])).all()


def test_scope_is_honoured_part_by_part(tiny_en: Checkpoint) -> None:
    adapter = quantizers.adapter("quanto")
    for part in ("encoder.fc1", "decoder.cross_kv"):
        recipe = replace(INT8, scope=(part,))
        rows = take_census(quantize(float_model(tiny_en), recipe), adapter.describe)
        check_scope(rows, recipe)
        assert {row.part for row in rows if row.quantized} == {part}
        with pytest.raises(QuantizationError):
            check_scope(rows, INT8)


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
        (replace(INT8, activations=Activations("int8", "per-tensor")), "scheme = 'static'"),
        (replace(INT8, activations=Activations("uint8", "per-tensor")), "int8, float8_e4m3fn"),
    ],
)
def test_what_quanto_cannot_do_is_refused(
    tiny_en: Checkpoint, recipe: Recipe, message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        quantize(float_model(tiny_en), recipe)


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
    with pytest.raises(BundleError, match="holds 'more'"):
        adapter.load(path, config)
    save_file(tensors | {name: tensors[name][:1, :1].clone()}, path, metadata)
    with pytest.raises(BundleError, match="scales"):
        adapter.load(path, config)
    save_file(tensors, path, {"quantization_map": "{"})
    with pytest.raises(BundleError, match="unusable layers"):
        adapter.load(path, config)
    path.write_bytes(original.read_bytes()[:1000])
    with pytest.raises(BundleError, match="not a safetensors file"):
        adapter.load(path, config)


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optimum.quanto", None)  # Python's way to say "not installed"
    with pytest.raises(MissingLibraryError, match=r"pip install 'edgewhisper\[quanto\]'"):
        quantizers.adapter("quanto")
