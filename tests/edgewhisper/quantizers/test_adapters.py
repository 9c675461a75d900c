"""What every recipe that ships promises, whatever its library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgewhisper import backend, quantizers
from edgewhisper.checkpoints import Checkpoint
from edgewhisper.quantizers.census import check_scope, take_census
from edgewhisper.recipes import Recipe, all_recipes, find_recipe
from edgewhisper_runtime.bundle import Manifest, Origin, Settings
from edgewhisper_runtime.errors import RecipeError
from logits import first_logits
from sizes import expected_bytes
from variants import config_of, float_model, quantize

# HQQ fits for many seconds what test_hqq.py tries in all widths, groups and axes on a little model.
RECIPES = [r for r in all_recipes() if r.library != "hqq" or r.name == "hqq-mixed"]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_the_file_alone_brings_back_the_same_model(
    tiny_en: Checkpoint, speech: list[Path], tmp_path: Path, recipe: Recipe
) -> None:
    from safetensors import safe_open

    adapter = quantizers.adapter(recipe.library)
    model = float_model(tiny_en)
    quantize(model, recipe, lambda: first_logits(model, speech[1]))
    path = tmp_path / "weights.safetensors"
    adapter.save(model, path)
    loaded = adapter.load(path, config_of(tiny_en))

    adapter.save(loaded, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()

    assert path.stat().st_size == pytest.approx(expected_bytes(tiny_en.config(), recipe), rel=0.01)
    rows = take_census(loaded, adapter.describe)
    assert rows == take_census(model, adapter.describe)
    check_scope(rows, recipe)
    # The census leaves out biases, norms and positions: about 1 % of the float32 model.
    assert 0.8 < sum(row.bytes for row in rows) / path.stat().st_size <= 1
    with safe_open(path, "pt") as file:
        floats = {key for key in file.keys() if file.get_slice(key).get_dtype() == "F32"}  # noqa: SIM118 # not a dict
    if "encoder.qkv" in recipe.scope:
        assert "model.encoder.layers.0.self_attn.q_proj.weight" not in floats

    # Where a tensor lies in memory may choose another kernel: rounding, not another weight.
    logits = [first_logits(either, speech[0]) for either in (model, loaded)]
    np.testing.assert_allclose(*logits, atol=1e-3)


@pytest.mark.parametrize("name", ["pytorch-int8", "bitsandbytes-int8"])
def test_what_runs_on_the_cpu_only_says_so(name: str, tmp_path: Path) -> None:
    recipe = find_recipe(name)
    manifest = Manifest(
        name="m", created="", backend="torch", settings=Settings(80, 448),
        model=Origin("m", {}, {}), recipe=recipe.record(), census=(), libraries={},
    )  # fmt: skip
    with pytest.raises(RecipeError, match=f"{name} runs on the CPU only: .*--device cpu"):
        backend.load(tmp_path, manifest, "cuda", None)
