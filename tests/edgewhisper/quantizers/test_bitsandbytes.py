"""bitsandbytes: what it refuses, and that a 4-bit model is saved before it runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgewhisper.checkpoints import Checkpoint
from edgewhisper.quantizers import bitsandbytes
from edgewhisper.recipes import Recipe, find_recipe
from edgewhisper.recipes.schema import Activations, Weights
from edgewhisper_runtime.errors import QuantizationError, RecipeError
from logits import first_logits
from variants import LITTLE, float_model, quantize, random_model

NF4, INT8 = find_recipe("bitsandbytes-nf4"), find_recipe("bitsandbytes-int8")


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (replace(NF4, weights=Weights("nf4", "symmetric", "per-group", 128)), "group_size = 64"),
        (replace(NF4, weights=Weights("int4", "symmetric", "per-group", 64)), "'nf4' and 'fp4'"),
        (replace(NF4, activations=Activations("int8", "per-row")), "'float32'"),
        (replace(INT8, activations=Activations()), "'int8', granularity = 'per-row'"),
        (replace(INT8, scope=("convolution",)), "bitsandbytes quantizes Linear layers only"),
    ],
)
def test_what_it_cannot_do_is_refused(recipe: Recipe, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        quantize(random_model(LITTLE), recipe)


def test_four_bits_refuse_the_output_layer(tiny_en: Checkpoint) -> None:
    with pytest.raises(RecipeError, match=r"blocks of 32, and proj_out has 51864.*output"):
        quantize(float_model(tiny_en), replace(NF4, scope=("output",)))


def test_a_model_that_has_run_is_saved_unharmed_or_refused(
    tiny_en: Checkpoint, speech: list[Path], tmp_path: Path
) -> None:
    """Whether running repacks the weights depends on the processor; garbage is never written."""
    from bitsandbytes.nn import Linear4bit

    paths = [tmp_path / name for name in ("before.safetensors", "after.safetensors")]
    model = quantize(float_model(tiny_en), NF4)
    bitsandbytes.save(model, paths[0])
    first_logits(model, speech[0])
    repacked = any(
        getattr(module.weight.quant_state, "packing_format_for_cpu", False)
        for module in model.modules()
        if isinstance(module, Linear4bit)
    )
    if repacked:
        with pytest.raises(QuantizationError, match="save before running"):
            bitsandbytes.save(model, paths[1])
    else:
        bitsandbytes.save(model, paths[1])
        assert paths[0].read_bytes() == paths[1].read_bytes()
