"""Exports for PyTorch alone: a variant's own tensors, bit for bit what the variant computes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgewhisper import backend
from edgewhisper.checkpoints import Checkpoint
from edgewhisper.recipes import Recipe, all_recipes, find_recipe
from edgewhisper_exporters import eligibility
from edgewhisper_runtime import audio, bundle
from edgewhisper_runtime.audio import features
from edgewhisper_runtime.engines.pytorch import FILE, PytorchBackend
from edgewhisper_runtime.errors import RecipeError
from edgewhisper_runtime.text.tokens import Tokenizer
from edgewhisper_runtime.transcriber import Transcriber
from logits import logits_of
from variants import stage, stage_export

if TYPE_CHECKING:
    from conftest import Run

# All layers int8, as the study has them and per channel; some left in float; the embedding too.
EXPORTED = ("pytorch-int8-per-tensor", "pytorch-int8", "pytorch-int8-fc2-float",
            "pytorch-int8-embedding", "fp32", "fp16", "bf16")  # fmt: skip
# In an interpreter where unpickling is an error, and transformers cannot be imported.
ALONE = """
import pickle, sys
from pathlib import Path
import numpy as np
import torch
class Refused:
    def __init__(self, *arguments, **keywords):
        raise SystemExit("unpickled")
pickle.Unpickler = pickle.load = pickle.loads = pickle._Unpickler = Refused
sys.modules["transformers"] = sys.modules["edgewhisper"] = None
from edgewhisper_runtime.engines.pytorch import PytorchBackend
backend = PytorchBackend(Path(sys.argv[1]))
cache = backend.start(backend.encode(np.zeros((1, 80, 400), dtype=np.float32)))
logits = backend.step(np.array([[50257, 50362]]), cache)
print(*logits.shape, len(cache.past), *sorted({"scipy", "huggingface_hub"} & sys.modules.keys()))
"""


@pytest.mark.parametrize("name", EXPORTED)
def test_an_export_computes_the_variant_s_bits(
    tiny_en: Checkpoint, speech: list[Path], name: str
) -> None:
    check_bits(tiny_en, find_recipe(name), speech)


def test_so_it_does_with_calibrated_activations(
    tiny_en: Checkpoint, data: Path, speech: list[Path]
) -> None:
    recipe = find_recipe("pytorch-int8-static")
    few = replace(recipe, name="few", calibration=replace(recipe.calibration, utterances=2))
    check_bits(tiny_en, few, speech, data / "LibriSpeech")


def check_bits(
    tiny_en: Checkpoint, recipe: Recipe, speech: list[Path], calibration: Path | None = None
) -> None:
    variant = stage(tiny_en, recipe, calibration)
    manifest = bundle.read_manifest(variant)
    theirs = backend.TorchBackend(backend.load_model(variant, manifest))
    export = stage_export(tiny_en, recipe, calibration, to_format="pytorch")
    ours = PytorchBackend(export / FILE)
    for path in speech[:2]:
        np.testing.assert_array_equal(logits_of(ours, path), logits_of(theirs, path))
    tokenizer = Tokenizer(export / bundle.TOKENIZER)
    transcripts = [
        Transcriber(engine, tokenizer, manifest.settings).transcribe(speech[1])
        for engine in (ours, theirs)
    ]
    assert transcripts[0] == transcripts[1]
    assert transcripts[0].text


def test_batches_and_several_tokens_after_others_have_the_variant_s_bits(
    tiny_en: Checkpoint, speech: list[Path]
) -> None:
    """Prompts, steps and more tokens at once, of two recordings: also what transformers masks."""
    recipe = find_recipe("pytorch-int8-fc2-float")
    variant = stage(tiny_en, recipe)
    theirs = backend.TorchBackend(backend.load_model(variant, bundle.read_manifest(variant)))
    ours = PytorchBackend(stage_export(tiny_en, recipe, to_format="pytorch") / FILE)
    clips = [audio.load(path)[: 6 * audio.SAMPLE_RATE] for path in speech[:2]]
    mels = np.stack([features.log_mel(clip, 80, 600) for clip in clips])
    caches = [(engine, engine.start(engine.encode(mels))) for engine in (ours, theirs)]
    for tokens in ([[50257, 50362]] * 2, [[843], [843]], [[257, 262, 286], [314, 373, 340]]):
        ours_logits, theirs_logits = (e.step(np.array(tokens), cache) for e, cache in caches)
        np.testing.assert_array_equal(ours_logits, theirs_logits)


def test_the_file_needs_pytorch_alone_and_unpickles_nothing(tiny_en: Checkpoint) -> None:
    export = stage_export(tiny_en, find_recipe("pytorch-int8"), to_format="pytorch")
    command = [sys.executable, "-c", ALONE, str(export / FILE)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["1", "51864", "8"]
    assert result.stderr == ""


def test_the_manifest_counts_what_the_file_holds(tiny_en: Checkpoint, run: Run) -> None:
    recipe = find_recipe("pytorch-int8-embedding")
    variant = bundle.read_manifest(stage(tiny_en, recipe))
    directory = stage_export(tiny_en, recipe, to_format="pytorch")
    export = bundle.verify(directory)
    assert export.backend == "pytorch"
    assert export.files.keys() == {FILE, "tokenizer.json", "LICENSE"}
    assert export.census == variant.census
    assert export.weight_bytes == pytest.approx(variant.weight_bytes, abs=1000)
    assert "65 of 65 Linear layers, int8 per-channel" in run("inspect", directory).stdout


def test_the_export_holds_the_variant_s_own_tensors(tiny_en: Checkpoint) -> None:
    from safetensors.torch import load_file

    recipe = find_recipe("pytorch-int8-per-tensor")
    variant = load_file(stage(tiny_en, recipe) / backend.WEIGHTS)
    export = load_file(stage_export(tiny_en, recipe, to_format="pytorch") / FILE)
    assert export.keys() == variant.keys()
    for name, tensor in export.items():
        assert tensor.dtype == variant[name].dtype
        assert tensor.equal(variant[name])


def test_which_recipes_can_be_exported() -> None:
    reasons = {r.name: eligibility.why_not(asdict(r), "pytorch") for r in all_recipes()}
    assert {name for name, reason in reasons.items() if reason is None} == {
        "fp32", "fp16", "bf16", "pytorch-int8", "pytorch-int8-embedding", "pytorch-int8-fc2-float",
        "pytorch-int8-per-tensor", "pytorch-int8-static",
    }  # fmt: skip
    assert eligibility.leanest(asdict(find_recipe("pytorch-int8"))) == "pytorch"
    assert eligibility.leanest(asdict(find_recipe("fp32"))) == "onnx"
    assert eligibility.leanest(asdict(find_recipe("bitsandbytes-nf4"))) is None


def test_another_library_s_recipe_is_refused(tiny_en: Checkpoint) -> None:
    with pytest.raises(RecipeError, match=r"cannot be exported to pytorch: hqq's layers"):
        stage_export(tiny_en, find_recipe("hqq-int4-g64"), to_format="pytorch")
