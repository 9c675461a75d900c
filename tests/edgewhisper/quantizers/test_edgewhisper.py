"""EdgeWhisper's own quantizer: one tensor at both ends, and grids that are as fine as they say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgewhisper.checkpoints import Checkpoint
from edgewhisper.quantizers import edgewhisper
from edgewhisper.quantizers.census import check_scope, take_census
from edgewhisper.recipes import Recipe, find_recipe
from edgewhisper.recipes.schema import Activations, Weights
from edgewhisper_runtime.errors import BundleError, RecipeError
from logits import first_logits
from sizes import expected_bytes
from variants import LITTLE, config_of, float_model, quantize, random_model

INT8, INT4 = find_recipe("edgewhisper-int8"), find_recipe("edgewhisper-int4-all")


def test_the_embedding_is_one_tensor_at_both_ends(tmp_path: Path) -> None:
    from safetensors import safe_open
    from transformers import WhisperConfig

    model = quantize(random_model(LITTLE), INT8)
    path = tmp_path / "weights.safetensors"
    edgewhisper.save(model, path)
    with safe_open(path, "pt") as file:
        assert not [key for key in file.keys() if key.startswith("proj_out")]  # noqa: SIM118 # not a dict
    loaded = edgewhisper.load(path, WhisperConfig(**LITTLE))
    assert loaded.proj_out.embedding is loaded.model.decoder.embed_tokens


@pytest.mark.parametrize("recipe", [INT8, INT4])
def test_lookup_and_product_use_the_same_values(recipe: Recipe) -> None:
    import torch

    float_weight = random_model(LITTLE).proj_out.weight.detach()
    model = quantize(random_model(LITTLE), recipe)
    looked_up = model.model.decoder.embed_tokens(torch.arange(640))
    multiplied = model.proj_out(torch.eye(128)).T
    torch.testing.assert_close(looked_up, multiplied)
    step = {8: 1 / 254, 4: 1 / 15}[recipe.weights.bits]
    largest = float_weight.abs().amax()
    assert (looked_up - float_weight).abs().max() < 2.2 * step * largest


def test_four_bits_are_closer_than_plain_rounding_to_the_full_range(tiny_en: Checkpoint) -> None:
    weight = float_model(tiny_en).model.decoder.layers[0].fc1.weight.detach()
    model = quantize(float_model(tiny_en), replace(INT4, scope=("decoder.fc1",)))
    ours = model.model.decoder.layers[0].fc1.codes.values()
    groups = weight.reshape(-1, 32)
    low, high = groups.amin(1, keepdim=True), groups.amax(1, keepdim=True)
    scale = (high - low) / 15
    zero = (-low / scale).round()
    plain = (((groups / scale + zero).round().clamp(0, 15) - zero) * scale).reshape(weight.shape)
    assert (ours - weight).square().mean() < 0.97 * (plain - weight).square().mean()


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (replace(INT8, scope=("embedding",)), "Put both in scope"),
        (replace(INT8, scope=("output", "encoder.fc1")), "Put both in scope"),
        (replace(INT8, activations=Activations("uint8", "per-tensor")), "or makes them"),
        (replace(INT8, weights=Weights("int8", "symmetric", "per-tensor")), "'per-channel'"),
        (replace(INT4, weights=Weights("int4", "asymmetric", "per-group", 48)), "groups of 48"),
        (
            replace(INT4, weights=Weights("int4", "none", "per-group", 32)),
            "method = 'symmetric' or",
        ),
    ],
)
def test_what_it_does_not_do_is_refused(recipe: Recipe, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        quantize(random_model(LITTLE), recipe)


def test_convolutions_can_be_in_scope(
    tiny_en: Checkpoint, speech: list[Path], tmp_path: Path
) -> None:
    recipe = replace(INT8, scope=(*INT8.scope, "convolution"))
    model = quantize(float_model(tiny_en), recipe)
    path = tmp_path / "weights.safetensors"
    edgewhisper.save(model, path)
    assert path.stat().st_size == pytest.approx(expected_bytes(tiny_en.config(), recipe), rel=0.01)
    loaded = edgewhisper.load(path, config_of(tiny_en))
    check_scope(take_census(loaded, edgewhisper.describe), recipe)
    expected = first_logits(float_model(tiny_en), speech[0])
    found = first_logits(loaded, speech[0])
    np.testing.assert_array_equal(first_logits(model, speech[0]), found)
    assert (found.argmax(1) == expected.argmax(1)).all()


def test_a_file_whose_output_layer_shares_nothing_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, safe_open, save_file
    from transformers import WhisperConfig

    path = tmp_path / "weights.safetensors"
    edgewhisper.save(quantize(random_model(LITTLE), INT8), path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    metadata["layers"] = metadata["layers"].replace(
        '"shares": "model.decoder.embed_tokens"', '"shares": "model.decoder.nothing"'
    )
    save_file(load_file(path), path, metadata)
    with pytest.raises(BundleError, match="unusable layers"):
        edgewhisper.load(path, WhisperConfig(**LITTLE))


def test_an_output_layer_of_its_own_is_not_replaced_by_the_embedding() -> None:
    """A fine-tune may have one: tie_word_embeddings is false then."""
    import torch

    model = random_model(LITTLE | {"tie_word_embeddings": False})
    assert not torch.equal(model.proj_out.weight, model.model.decoder.embed_tokens.weight)
    with pytest.raises(RecipeError, match="this checkpoint has two different ones"):
        quantize(model, INT8)
