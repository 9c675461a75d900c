"""Checkpoints as people make them, from the build to the transcript, on real weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from conftest import Run
from edgewhisper.checkpoints import Checkpoint, open_checkpoint
from edgewhisper.recipes import find_recipe
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.errors import RecipeError
from edgewhisper_runtime.loading import load
from edgewhisper_runtime.options import Options
from logits import logits_of
from variants import stage, stage_export

NEW_TOKENS = ["Überlingen", "EdgeWhisper"]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "run" / "checkpoint-1000"


def test_added_tokens(
    run: Run, tiny_en: Checkpoint, onnx_bundle: Path, smoke_clip: Path, directory: Path
) -> None:
    from transformers import GenerationConfig, WhisperTokenizerFast

    tokenizer = WhisperTokenizerFast.from_pretrained(tiny_en.path)
    assert tokenizer.add_tokens(NEW_TOKENS) == 2
    model = tiny_en.load()
    model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=8)
    model.generation_config = GenerationConfig.from_pretrained(tiny_en.path)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)

    architecture = open_checkpoint(Workspace.from_environment(), directory).architecture
    assert architecture.vocabulary == 51_872
    assert architecture.suppress[-6:] == tuple(range(51_866, 51_872))
    built = run("build", "--model", directory, "--recipe=onnx-int8", "--limit=2", "--rounds=0")
    assert built.returncode == 0, built.stderr
    bundle = built.stdout.strip().splitlines()[-1].removeprefix("bundle: ")
    assert Path(bundle).name.startswith("checkpoint-1000-")
    result = run("transcribe", "--bundle", bundle, smoke_clip)
    assert result.returncode == 0, result.stderr
    assert result.stdout == run("transcribe", "--bundle", onnx_bundle, smoke_clip).stdout


def test_a_shrunken_decoder_has_word_times(
    tiny_en: Checkpoint, smoke_clip: Path, directory: Path
) -> None:
    from torch.nn import ModuleList

    model = tiny_en.load()
    layers = model.model.decoder.layers
    model.model.decoder.layers = ModuleList([layers[0], layers[1], layers[3]])
    model.config.decoder_layers = 3
    model.save_pretrained(directory)
    for name in ("generation_config.json", "tokenizer.json"):
        shutil.copy(tiny_en.path / name, directory)
    named = json.loads((directory / "generation_config.json").read_text())["alignment_heads"]
    assert max(layer for layer, _ in named) == 3

    checkpoint = open_checkpoint(Workspace.from_environment(), directory)
    bundle = stage_export(checkpoint, find_recipe("onnx-int8"))
    transcript = load(bundle).transcribe(smoke_clip, options=Options(words=True, timestamps=True))
    assert [word.text for segment in transcript.segments for word in segment.words or ()]


def test_an_output_layer_of_its_own(tiny_en: Checkpoint, smoke_clip: Path, directory: Path) -> None:
    from torch.nn import Parameter

    model = tiny_en.load()
    model.config.tie_word_embeddings = False
    model.proj_out.weight = Parameter(2 * model.proj_out.weight.detach())
    model.save_pretrained(directory)
    for name in ("generation_config.json", "tokenizer.json"):
        shutil.copy(tiny_en.path / name, directory)
    checkpoint = open_checkpoint(Workspace.from_environment(), directory)
    tied, untied = (
        logits_of(load(stage(one, find_recipe("fp32"))).decoder.backend, smoke_clip)
        for one in (tiny_en, checkpoint)
    )
    assert np.allclose(2 * tied, untied)
    with pytest.raises(RecipeError, match="this checkpoint has two different ones"):
        stage(checkpoint, find_recipe("onnx-int8"))
