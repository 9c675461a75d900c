"""What every recipe that ships promises, whatever its library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgewhisper import quantizers
from edgewhisper.checkpoints import Checkpoint
from edgewhisper.quantizers.census import check_scope, take_census
from edgewhisper.recipes import Recipe, all_recipes
from logits import first_logits


@pytest.mark.parametrize("recipe", all_recipes(), ids=lambda recipe: recipe.name)
def test_the_file_alone_brings_back_the_same_model(
    tiny_en: Checkpoint, speech: list[Path], tmp_path: Path, recipe: Recipe
) -> None:
    import torch
    from safetensors import safe_open
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    adapter = quantizers.adapter(recipe.library)
    model = WhisperForConditionalGeneration.from_pretrained(tiny_en.path, dtype=torch.float32)
    with torch.no_grad():
        adapter.quantize(model.eval(), recipe)
    path = tmp_path / "weights.safetensors"
    adapter.save(model, path)
    loaded = adapter.load(path, WhisperConfig(**tiny_en.config()))

    adapter.save(loaded, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()

    rows = take_census(loaded, adapter.describe)
    assert rows == take_census(model, adapter.describe)
    check_scope(rows, recipe)
    quantized = [row for row in rows if row.quantized]
    assert {row.granularity.split()[0] for row in quantized} <= {recipe.weights.granularity}
    assert sum(row.bytes for row in rows) < path.stat().st_size * 1.01
    with safe_open(path, "pt") as file:
        floats = {key for key in file.keys() if file.get_slice(key).get_dtype() == "F32"}  # noqa: SIM118 # not a dict
    if "encoder.attention" in recipe.scope:
        assert "model.encoder.layers.0.self_attn.q_proj.weight" not in floats

    # Where a tensor lies in memory may choose another kernel: rounding, not another weight.
    logits = [first_logits(either, speech[0]) for either in (model, loaded)]
    np.testing.assert_allclose(*logits, atol=1e-3)
