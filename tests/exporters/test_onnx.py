"""Exports to ONNX: the same numbers as the variant, in the operators and bytes that are claimed."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgewhisper import backend, quantizers
from edgewhisper.checkpoints import Checkpoint
from edgewhisper.export import to_model
from edgewhisper.recipes import Recipe, Weights, all_recipes, find_recipe
from edgewhisper.recipes.sizes import exported_bytes
from edgewhisper_exporters import eligibility, onnx
from edgewhisper_exporters.layers import Grid, Layer
from edgewhisper_exporters.onnx import checks, graph
from edgewhisper_runtime import bundle
from edgewhisper_runtime.engines import onnx_file
from edgewhisper_runtime.engines.onnx import DECODER, ENCODER, OnnxBackend
from edgewhisper_runtime.errors import BundleError, QuantizationError, RecipeError
from edgewhisper_runtime.text.tokens import Tokenizer
from edgewhisper_runtime.transcriber import Transcriber
from logits import logits_of
from variants import LITTLE, SMALL, quantize, random_model, stage, stage_export

if TYPE_CHECKING:
    from conftest import Run

# Each way to store weights: whole channels, groups with whole zero points, with fractions, mixed.
EXACT = ("fp32", "onnx-int8-weights", "edgewhisper-int4", "quanto-int8", "quanto-int4",
         "hqq-mixed")  # fmt: skip
SLOW = {"quanto", "hqq"}  # they unpack their weights at each token
ELIGIBLE = {
    "fp32", "fp16", "quanto-int8", "quanto-int4", "edgewhisper-int8", "edgewhisper-int4",
    "edgewhisper-int4-all", "onnx-int8", "onnx-int8-weights", "onnx-int4", "hqq-int8-g64",
    "bitsandbytes-int8", "hqq-mixed", "hqq-int4-g16", "hqq-int4-g32", "hqq-int4-g64",
    "hqq-int4-g128", "hqq-int3-g64", "hqq-int3-g32", "hqq-int2-g64", "hqq-int2-g16", "quanto-int2",
    "onnx-int4-nearest", "onnx-int4-weighted", "onnx-int4-gptq", "onnx-int4-smooth",
    "onnx-int8-smooth", "onnx-int4-8", "onnx-int4-whole", "onnx-int3", "onnx-int8-en",
    "onnx-int4-gptq-en", "onnx-int4-mixed",
}  # fmt: skip


def opened(directory: Path) -> OnnxBackend:
    return OnnxBackend(directory / ENCODER, directory / DECODER, threads=2)


def exported(model: Any, recipe: Recipe, directory: Path) -> Path:
    """Quantize a model and export it, without a bundle around it."""
    quantize(model, recipe)
    rounds = recipe.activations.dtype == "int8"
    network = to_model(model, quantizers.adapter(recipe.library))
    onnx.export(network, "int8" if rounds else "float32", directory)
    return directory


@pytest.mark.parametrize("name", EXACT)
def test_the_library_s_own_integers_give_the_variant_s_tokens(
    tiny_en: Checkpoint, speech: list[Path], name: str
) -> None:
    recipe = find_recipe(name)
    variant = stage(tiny_en, recipe)
    export = stage_export(tiny_en, recipe)
    manifest = bundle.read_manifest(variant)
    theirs = backend.load(variant, manifest, "cpu", None)
    ours = opened(export)
    for path in speech[:2]:
        np.testing.assert_allclose(logits_of(ours, path), logits_of(theirs, path), atol=2e-3)
    if recipe.library in SLOW:
        return
    tokenizer = Tokenizer(export / bundle.TOKENIZER)
    spoken = [
        Transcriber(engine, tokenizer, manifest.settings).transcribe(speech[2]).segments
        for engine in (ours, theirs)
    ]
    assert spoken[0] == spoken[1]
    assert spoken[0]


def to_codes_and_back(_module: Any, _inputs: Any, output: Any) -> Any:
    """Round the audio's keys or values [batch, positions, width] by channel, as the export does."""
    step = output.abs().amax(dim=1, keepdim=True) / 127
    return (output / step).round() * step


def test_integer_arithmetic_is_what_the_variant_simulates(tmp_path: Path) -> None:
    """On one layer: over many, roundings that fall either way make two other models of them."""
    model = random_model(LITTLE)
    exact = backend.TorchBackend(deepcopy(model))
    ours = opened(exported(model, find_recipe("onnx-int8"), tmp_path))
    for layer in model.model.decoder.layers:
        for projection in (layer.encoder_attn.k_proj, layer.encoder_attn.v_proj):
            projection.register_forward_hook(to_codes_and_back)
    theirs = backend.TorchBackend(model)
    features = np.random.default_rng(0).normal(size=(2, 80, 200)).astype(np.float32)
    tokens = np.array([[1, 2, 3], [4, 5, 6]])
    logits = [
        engine.step(tokens, engine.start(engine.encode(features)))
        for engine in (ours, theirs, exact)
    ]
    error = np.abs(logits[0] - logits[1]).mean() / np.abs(logits[2] - logits[1]).mean()
    assert error < 0.5


def test_a_graph_with_the_layers_of_the_largest_whisper_is_opened(tmp_path: Path) -> None:
    sizes = {"d_model": 256, "encoder_ffn_dim": 1024, "decoder_ffn_dim": 1024}
    config = LITTLE | sizes | {"encoder_layers": 32, "decoder_layers": 32}
    engine = opened(exported(random_model(config), find_recipe("onnx-int8"), tmp_path))
    encoded = engine.encode(np.zeros((1, 80, 200), np.float32))
    assert engine.step(np.array([[1]]), engine.start(encoded)).shape == (1, 640)


def test_codes_of_the_audio_are_within_half_a_step(tmp_path: Path) -> None:
    """Of layers in float, so that the codes of keys and values are all that is rounded."""
    model = to_model(random_model(LITTLE), quantizers.adapter("pytorch"))
    features = np.random.default_rng(0).normal(size=(2, 80, 200)).astype(np.float32)
    encoded = []
    for arithmetic in ("int8", "float32"):
        directory = tmp_path / arithmetic
        directory.mkdir()
        onnx.export(model, arithmetic, directory)
        encoded.append(opened(directory).encode(features))
    codes, exact = encoded
    steps = iter(np.moveaxis(codes["cross_steps"], 1, 0))
    for name, expected in exact.items():
        batch, heads, _, width = expected.shape
        step = next(steps).reshape(batch, heads, 1, width)
        assert codes[name].dtype == np.int8
        assert (np.abs(codes[name]).max(axis=2) == 127).all()
        assert (np.abs(codes[name] * step - expected) <= 0.501 * step).all()


def test_the_manifest_says_what_was_exported_and_runs(tiny_en: Checkpoint) -> None:
    recipe = find_recipe("onnx-int8")
    directory = stage_export(tiny_en, recipe)
    manifest = bundle.verify(directory)
    assert manifest.backend == "onnx"
    assert {ENCODER, DECODER} < manifest.files.keys()
    assert "weights.safetensors" not in manifest.files
    assert manifest.libraries.keys() >= {"onnx", "onnxruntime"}
    assert manifest.export is not None
    encoder, decoder = (manifest.export.graphs[name] for name in (ENCODER, DECODER))
    # 4 layers of 6 matrices, 2 convolutions, keys and values for 4 decoder layers
    assert encoder.operators_loaded["MatMulIntegerToFloat"] == 4 * 6 + 2 + 2 * 4
    assert "MatMul" not in encoder.operators_loaded
    # 4 layers of qkv, out, q, out, fc1 and fc2, and the output layer
    assert decoder.operators_loaded["MatMulIntegerToFloat"] == 4 * 6 + 1
    # 4 layers of both attentions; the output layer's transposed weight is not kept beside
    assert decoder.operators_loaded["GroupQueryAttention"] == 4 * 2
    assert decoder.operators["Transpose"] == 1
    assert "Transpose" not in decoder.operators_loaded
    written = (directory / ENCODER).stat().st_mtime_ns
    assert stage_export(tiny_en, recipe) == directory
    assert (directory / ENCODER).stat().st_mtime_ns == written, "made alike, so kept"
    bundle.write_manifest(directory, replace(manifest, export=replace(manifest.export, layout=1)))
    assert stage_export(tiny_en, recipe) == directory
    assert (directory / ENCODER).stat().st_mtime_ns > written, "of another layout, so made again"


@pytest.mark.parametrize("name", ["onnx-int4", "onnx-int8-weights", "quanto-int4", "hqq-mixed"])
def test_the_census_of_the_graphs_is_that_of_the_variant(tiny_en: Checkpoint, name: str) -> None:
    recipe = find_recipe(name)
    variant = bundle.read_manifest(stage(tiny_en, recipe)).census
    export = bundle.read_manifest(stage_export(tiny_en, recipe)).census
    for expected, found in zip(
        *([r for r in rows if r.quantized] for rows in (variant, export)), strict=True
    ):
        assert replace(expected, bytes=0) == replace(found, bytes=0)
        assert found.bytes == pytest.approx(expected.bytes, rel=0.05)


def test_which_recipes_can_be_exported_and_why_not() -> None:
    reasons = {recipe.name: eligibility.why_not(asdict(recipe), "onnx") for recipe in all_recipes()}
    assert {name for name, reason in reasons.items() if reason is None} == ELIGIBLE
    for name, words in {
        "bitsandbytes-nf4": "nf4",
        "quanto-int8-static-int8": "calibrated activations",
        "hqq-int4-g64-axis0": "axis 1",
        "hqq-int1-g64": "int1",
        "pytorch-int8": "round their inputs",
        "bf16": "bfloat16",
    }.items():
        assert words in str(reasons[name])
    small = replace(find_recipe("hqq-int4-g16").weights, group_size=24)
    odd = replace(find_recipe("hqq-int4-g16"), weights=small)
    assert "powers of two from 16" in str(eligibility.why_not(asdict(odd), "onnx"))


def test_a_recipe_without_an_export_is_refused_before_the_work(
    tiny_en: Checkpoint, run: Run
) -> None:
    nf4 = ("build", "--model", "tiny.en", "--recipe", "bitsandbytes-nf4", "--export", "onnx")
    assert "cannot be exported to onnx" in run(*nf4).stderr
    cuda = ("build", "--model", "tiny.en", "--recipe", "onnx-int8", "--device", "cuda")
    assert "Use --export none there" in run(*cuda, "--export", "onnx").stderr
    assert "export: none" in run(*cuda).stderr
    with pytest.raises(RecipeError, match=r"cannot be exported to onnx: .*nf4.*--export none"):
        stage_export(tiny_en, find_recipe("bitsandbytes-nf4"))
    with pytest.raises(RecipeError, match=r"exports has onnx, but .*nf4"):
        Recipe.from_dict(asdict(find_recipe("bitsandbytes-nf4")) | {"exports": ["onnx"]}, "mine")


@pytest.mark.parametrize(
    ("size", "name"),
    [("base", "onnx-int8"), ("base", "onnx-int4"), ("base", "onnx-int8-weights"),
     ("base", "quanto-int8"), ("small", "onnx-int8")],
)  # fmt: skip
def test_sizes_are_those_of_the_architecture(
    request: pytest.FixtureRequest, tmp_path: Path, size: str, name: str
) -> None:
    recipe = find_recipe(name)
    if size == "base":
        checkpoint = request.getfixturevalue("base")
        model, config = checkpoint.load(), checkpoint.config()
    else:  # random weights
        model, config = random_model(SMALL), SMALL
    directory = exported(model, recipe, tmp_path)
    size_on_disk = sum(path.stat().st_size for path in directory.iterdir())
    # random weights are no float16 values, OpenAI's are
    float_bytes = 2 if size == "base" else 4
    assert size_on_disk == pytest.approx(exported_bytes(config, recipe, float_bytes), rel=0.01)
    if size == "base":
        largest = {"onnx-int8": 78e6, "onnx-int4": 0.19 * 290.4e6}
        assert size_on_disk < largest.get(name, 1e9)


@pytest.mark.parametrize("name", ["quanto-int4", "edgewhisper-int4-all"])
def test_groups_that_are_no_power_of_two(tmp_path: Path, name: str) -> None:
    """Quanto chooses groups of 96 and the like; kernels take blocks of powers of two."""
    config = LITTLE | {"d_model": 96, "encoder_attention_heads": 3, "decoder_attention_heads": 3,
                       "encoder_ffn_dim": 192, "decoder_ffn_dim": 192}  # fmt: skip
    weights = Weights("int4", "asymmetric", "per-group", 96)
    recipe = replace(find_recipe(name), weights=weights)
    model = random_model(config)
    directory = exported(model, recipe, tmp_path)
    theirs, ours = backend.TorchBackend(model), opened(directory)
    features = np.random.default_rng(0).normal(size=(2, 80, 200)).astype(np.float32)
    tokens = np.array([[1, 2, 3], [4, 5, 6]])
    logits = [
        engine.step(tokens, engine.start(engine.encode(features))) for engine in (ours, theirs)
    ]
    np.testing.assert_allclose(*logits, atol=1e-4)


def test_a_grid_s_values_are_the_layer_s(tiny_en: Checkpoint) -> None:
    model = quantize(tiny_en.load(), find_recipe("quanto-int4"))
    name = "model.decoder.layers.1.fc1"
    network = to_model(model, quantizers.adapter("quanto"))
    grid = network.layers[name].weight
    assert isinstance(grid, Grid)
    expected = model.get_submodule(name).weight.dequantize().detach().numpy()
    np.testing.assert_allclose(grid.values(), expected, atol=1e-6)


def test_an_engine_that_widens_the_weights_is_found_out(tmp_path: Path) -> None:
    """DequantizeLinear on constant weights is what engines like to compute once and keep."""
    from onnx import TensorProto, helper, numpy_helper, save

    weight = numpy_helper.from_array(np.ones((64, 64), np.int8), "w")
    scale = numpy_helper.from_array(np.float32(0.1), "s")
    nodes = [
        helper.make_node("Cast", ["w"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["f", "s"], ["v"]),
        helper.make_node("MatMul", ["x", "v"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 64]) for n in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], [weight, scale])
    opset = [helper.make_opsetid("", 21)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=10), tmp_path / "m.onnx")
    with pytest.raises(QuantizationError, match="widens quantized weights to floats"):
        checks.check(tmp_path / "m.onnx")


def test_a_float_graph_does_not_pass_for_a_quantized_one(tmp_path: Path) -> None:
    model = to_model(random_model(LITTLE), quantizers.adapter("pytorch"))
    found = onnx.export(model, "float32", tmp_path)
    with pytest.raises(QuantizationError, match="0 quantized operators"):
        checks.check_quantized(found, "int8")


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_an_embedding_that_is_there_twice_is_found_out(tmp_path: Path, dtype: type) -> None:
    model = to_model(random_model(LITTLE), quantizers.adapter("pytorch"))
    layers = {name: Layer(layer.weight.astype(dtype), layer.bias)
              for name, layer in model.layers.items()}  # fmt: skip
    table = layers["model.decoder.embed_tokens"]
    twice = replace(model, layers={**layers, "proj_out": Layer(table.weight + dtype(1))})
    onnx.export(twice, "float32", tmp_path)
    with pytest.raises(QuantizationError, match="embedding twice"):
        checks.check_tied(tmp_path / DECODER, model)


def test_what_no_file_can_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = to_model(random_model(LITTLE), quantizers.adapter("pytorch"))
    monkeypatch.setattr(graph, "_LARGEST", 100_000)
    with pytest.raises(QuantizationError, match=r"an ONNX file holds .*--export none"):
        onnx.export(model, "float32", tmp_path)


def test_a_bundle_with_another_file_s_graph_is_refused(tiny_en: Checkpoint, tmp_path: Path) -> None:
    directory = stage_export(tiny_en, find_recipe("fp32"))
    with pytest.raises(BundleError, match="not Whisper as this version of EdgeWhisper exports it"):
        OnnxBackend(directory / DECODER, directory / ENCODER)
    contents = onnx_file.read(directory / DECODER)
    assert json.dumps(contents.operators)
    assert sum(tensor.bytes for tensor in contents.tensors.values()) == pytest.approx(
        (directory / DECODER).stat().st_size, rel=0.01
    )
