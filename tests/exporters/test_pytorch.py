"""Exports to TorchScript: PyTorch's int8 layers, bit for bit, in a file for PyTorch alone."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgewhisper import backend, pipeline
from edgewhisper.checkpoints import Checkpoint
from edgewhisper.recipes import all_recipes, find_recipe
from edgewhisper_exporters import eligibility
from edgewhisper_runtime import bundle
from edgewhisper_runtime.engines.torchscript import FILE, TorchScriptBackend
from edgewhisper_runtime.errors import RecipeError
from edgewhisper_runtime.text.tokens import Tokenizer
from edgewhisper_runtime.transcriber import Transcriber
from logits import logits_of

if TYPE_CHECKING:
    from conftest import Run

# All layers int8, as the study has them and per channel; some left in float; the embedding too.
EXPORTED = ("pytorch-int8-per-tensor", "pytorch-int8", "pytorch-int8-fc2-float",
            "pytorch-int8-embedding", "bf16")  # fmt: skip
# In an interpreter where unpickling is an error, and transformers cannot be imported.
ALONE = """
import pickle, sys
import torch
class Refused:
    def __init__(self, *arguments, **keywords):
        raise SystemExit("unpickled")
pickle.Unpickler = pickle.load = pickle.loads = pickle._Unpickler = Refused
sys.modules["transformers"] = sys.modules["edgewhisper"] = None
model = torch.jit.load(sys.argv[1])
cross = model.encode(torch.zeros(1, 80, 400))
logits, past = model.prompt(torch.tensor([[50257, 50362]]), cross)
logits, past = model.step(logits.argmax(-1, keepdim=True), cross, past)
print(*logits.shape, len(past))
"""


@pytest.mark.parametrize("name", EXPORTED)
def test_an_export_computes_the_variant_s_bits(
    tiny_en: Checkpoint, speech: list[Path], name: str
) -> None:
    recipe = find_recipe(name)
    variant = pipeline.stage(tiny_en, recipe)
    manifest = bundle.read_manifest(variant)
    network = backend.load_model(variant, manifest)
    for parameter in network.parameters():  # as PyTorch allocates, not as a mapped file lies
        parameter.data = parameter.data.clone()
    theirs = backend.TorchBackend(network)
    export = pipeline.stage_export(tiny_en, recipe, to_format="pytorch")
    ours = TorchScriptBackend(export / FILE)
    for path in speech[:2]:
        np.testing.assert_array_equal(logits_of(ours, path), logits_of(theirs, path))
    tokenizer = Tokenizer(export / bundle.TOKENIZER)
    spoken = [
        Transcriber(engine, tokenizer, manifest.settings).transcribe(speech[1])
        for engine in (ours, theirs)
    ]
    assert spoken[0] == spoken[1]
    assert spoken[0].text


def test_the_file_needs_pytorch_alone_and_unpickles_nothing(tiny_en: Checkpoint) -> None:
    export = pipeline.stage_export(tiny_en, find_recipe("pytorch-int8"), to_format="pytorch")
    command = [sys.executable, "-W", "ignore", "-c", ALONE, str(export / FILE)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.split() == ["1", "51864", "8"]


def test_the_file_says_nothing_of_the_machine_that_made_it(tiny_en: Checkpoint) -> None:
    export = pipeline.stage_export(tiny_en, find_recipe("pytorch-int8"), to_format="pytorch")
    with zipfile.ZipFile(export / FILE) as archive:
        for here in (Path(__file__).parent.parent.parent, Path(sys.prefix), Path.home()):
            told = [n for n in archive.namelist() if str(here).encode() in archive.read(n)]
            assert not told


def test_the_manifest_counts_what_the_file_holds(tiny_en: Checkpoint, run: Run) -> None:
    recipe = find_recipe("pytorch-int8-embedding")
    variant = bundle.read_manifest(pipeline.stage(tiny_en, recipe))
    directory = pipeline.stage_export(tiny_en, recipe, to_format="pytorch")
    export = bundle.verify(directory)
    assert export.backend == "torchscript"
    assert export.files.keys() == {FILE, "tokenizer.json", "LICENSE"}
    assert export.census == variant.census
    # scales are doubles there and zero points stand beside them; the code is in the file too
    assert export.weight_bytes == pytest.approx(variant.weight_bytes, rel=0.02)
    assert "65 of 65 Linear layers, int8 per-channel" in run("inspect", directory).stdout


def test_which_recipes_can_be_exported() -> None:
    reasons = {r.name: eligibility.why_not(asdict(r), "torchscript") for r in all_recipes()}
    assert {name for name, reason in reasons.items() if reason is None} == {
        "fp32", "fp16", "bf16", "pytorch-int8", "pytorch-int8-embedding", "pytorch-int8-fc2-float",
        "pytorch-int8-per-tensor", "pytorch-int8-static",
    }  # fmt: skip
    assert eligibility.leanest(asdict(find_recipe("pytorch-int8"))) == "torchscript"
    assert eligibility.leanest(asdict(find_recipe("fp32"))) == "onnx"
    assert eligibility.leanest(asdict(find_recipe("bitsandbytes-nf4"))) is None


def test_another_library_s_recipe_is_refused(tiny_en: Checkpoint) -> None:
    with pytest.raises(RecipeError, match=r"cannot be exported to torchscript: hqq's layers"):
        pipeline.stage_export(tiny_en, find_recipe("hqq-int4-g64"), to_format="pytorch")
