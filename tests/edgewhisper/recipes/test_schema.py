"""Recipes are data: those that ship are sound, and a wrong one is told which key is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgewhisper.recipes import Recipe, all_recipes, check_names, find_recipe
from edgewhisper_runtime.errors import RecipeError

GROUPED = {
    "dtype": "int4",
    "method": "asymmetric",
    "granularity": "per-group",
    "group_size": 64,
}
GOOD = {
    "name": "mine",
    "summary": "what it does",
    "library": "quanto",
    "scheme": "dynamic",
    "scope": ["encoder.attention"],
    "max_wer_increase": 1,
    "weights": GROUPED,
}


def test_the_recipes_that_ship() -> None:
    recipes = {recipe.name: recipe for recipe in all_recipes()}
    assert next(iter(recipes)) == "fp32"
    assert not recipes["fp32"].quantizes
    assert recipes["quanto-int8"].weights.bits == 8
    assert "output" in recipes["quanto-int8"].scope


def test_each_part_of_every_recipe_is_a_recipe() -> None:
    """Also where only some parts calibrate."""
    for recipe in all_recipes():
        if recipe.quantizes:
            check_names(recipe.one_part_at_a_time())


def test_a_mixed_recipe_names_other_weights_for_a_part() -> None:
    mixed = find_recipe("hqq-mixed")
    assert mixed.weights_of("encoder.qkv").dtype == "int8"
    assert mixed.weights_of("decoder.fc1").dtype == "int8"
    assert mixed.weights_of("decoder.fc2").dtype == "int4"
    assert "encoder.fc2" in mixed.scope  # the feed-forward block's name stands for both layers


def test_what_a_batch_may_change() -> None:
    per_tensor = {recipe.name for recipe in all_recipes() if not recipe.batchable}
    assert per_tensor == {
        "pytorch-int8", "pytorch-int8-embedding", "pytorch-int8-fc2-float",
        "pytorch-int8-per-tensor",
    }  # fmt: skip


def test_a_file_of_ones_own_works_by_path(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        'name = "own"\nsummary = "s"\nlibrary = "quanto"\nscheme = "dynamic"\n'
        'scope = ["output"]\nmax_wer_increase = 2\n'
        '[weights]\ndtype = "int8"\nmethod = "symmetric"\ngranularity = "per-channel"\n'
    )
    recipe = find_recipe(str(path))
    assert (recipe.name, recipe.scope, recipe.max_wer_increase) == ("own", ("output",), 2.0)


def test_a_good_recipe() -> None:
    recipe = Recipe.from_dict(GOOD, "here")
    assert (recipe.weights.bits, recipe.weights.group_size) == (4, 64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nmae": "x"}, "unknown key nmae"),
        ({"library": "onnx"}, "library is 'onnx'; use one of bitsandbytes, edgewhisper"),
        ({"scheme": None}, "scheme is None"),
        ({"scope": ["encoder.everything"]}, r"scope is 'encoder\.everything'"),
        ({"scope": "output"}, "scope must be a list"),
        ({"scope": []}, "scope lists what"),
        ({"max_wer_increase": "0.5"}, "max_wer_increase is '0.5'; it must be a number"),
        ({"max_wer_increase": -1}, "max_wer_increase must be a number from 0"),
        ({"max_wer_increase": float("nan")}, "max_wer_increase is nan; it must be a finite number"),
        ({"name": "../x"}, "it names directories"),
        ({"name": ""}, "it names directories"),
        ({"name": 3}, "name is 3; it must be a text"),
        ({"weights": 8}, "weights must be a table"),
        ({"weights": {"dtype": "int7"}}, r"weights\.dtype is 'int7'"),
        ({"weights": {"dtype": "int4", "bits": 4}}, r"unknown key weights\.bits"),
        ({"weights": {"dtype": "int4", "granularity": "per-group"}}, r"weights\.group_size"),
        ({"weights": {"dtype": "int8", "group_size": 64}}, r"weights\.group_size"),
        (
            {"library": "hqq", "scope": [], "weights": {"dtype": "float16"}},
            "a recipe without scope has library 'pytorch'",
        ),
        ({"scheme": "none"}, "no other recipe has scheme 'none'"),
        ({"weights": {}}, r"key weights\.dtype is missing"),
        ({"scheme": "static"}, "calibration"),
        ({"exports": ["tflite"]}, "exports is 'tflite'; use one of onnx"),
        ({"calibration": {"split": "test-clean"}}, r"calibration\.split is 'test-clean'"),
        ({"calibration": {"split": "dev-clean", "utterances": 8}}, r"calibration\.split and"),
        ({"scheme": "static", "calibration": {"split": "dev-clean"}}, r"calibration\.utterances"),
        ({"activations": {"dtype": "int8"}}, r"activations\.granularity goes with"),
        ({"activations": {"granularity": "per-row"}}, r"activations\.granularity goes with"),
        ({"weights": GROUPED | {"axis": 2}}, r"weights\.axis must be 0 or 1"),
        ({"weights": GROUPED | {"double_quantized": 1}}, "must be true or false"),
        ({"overrides": [{"scope": ["output"], "weights": GROUPED}]}, "an override's scope"),
        ({"overrides": [{"scope": ["encoder.attention"]}]}, r"key overrides\.weights is missing"),
        (
            {"overrides": [{"scope": ["encoder.attention"], "weights": {"dtype": "float32"}}]},
            "scope lists what",
        ),
    ],
)
def test_a_wrong_recipe_is_told_its_key(change: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=f"here: .*{message}"):
        Recipe.from_dict(GOOD | change, "here")


def test_a_missing_key() -> None:
    with pytest.raises(RecipeError, match="the key library is missing"):
        Recipe.from_dict({k: v for k, v in GOOD.items() if k != "library"}, "here")
