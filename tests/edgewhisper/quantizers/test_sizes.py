"""Sizes on disk are those of the architecture: whisper-base, and whisper-small of random weights.

Every recipe's size on whisper-tiny.en is checked beside the rest that an adapter promises.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgewhisper import quantizers
from edgewhisper.checkpoints import Checkpoint
from edgewhisper.recipes import all_recipes, find_recipe
from sizes import expected_bytes
from variants import LITTLE, SMALL, float_model, quantize, random_model

# One recipe of each library; all the others are whisper-tiny.en's business.
STORED = ("pytorch-int8-embedding", "quanto-int4", "bitsandbytes-nf4-double", "edgewhisper-int4")
FLOAT_SMALL = 966.9e6


def stored_size(model: Any, name: str, directory: Path) -> int:
    recipe = find_recipe(name)
    path = directory / "weights.safetensors"
    quantizers.adapter(recipe.library).save(quantize(model, recipe), path)
    return path.stat().st_size


@pytest.mark.parametrize("name", STORED)
def test_base(base: Checkpoint, tmp_path: Path, name: str) -> None:
    expected = expected_bytes(base.config(), find_recipe(name))
    assert stored_size(float_model(base), name, tmp_path) == pytest.approx(expected, rel=0.01)


@pytest.fixture(scope="module")
def small() -> Any:
    return random_model(SMALL)


@pytest.mark.parametrize(
    ("name", "smaller"), [("quanto-int8", 57.4), ("edgewhisper-int8", 73.8), ("bf16", 50.0)]
)
def test_small(small: Any, tmp_path: Path, name: str, smaller: float) -> None:
    from copy import deepcopy

    size = stored_size(deepcopy(small), name, tmp_path)
    assert size == pytest.approx(expected_bytes(SMALL, find_recipe(name)), rel=0.01)
    assert 100 * (1 - size / FLOAT_SMALL) == pytest.approx(smaller, abs=0.3)


@pytest.mark.parametrize("name", [r.name for r in all_recipes() if r.library == "hqq"])
def test_hqq_on_tiny_by_one_layer_of_each_shape(tmp_path: Path, name: str) -> None:
    """HQQ fits zero points for long on a whole model, so one layer of each half stands in."""
    layers = LITTLE | {"d_model": 384, "encoder_attention_heads": 6, "decoder_attention_heads": 6,
                       "encoder_ffn_dim": 1536, "decoder_ffn_dim": 1536}  # fmt: skip
    size = stored_size(random_model(layers), name, tmp_path)
    assert size == pytest.approx(expected_bytes(layers, find_recipe(name)), rel=0.01)
