"""The PyTorch backend's cross-attention: the model's own, and the same from every engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgewhisper import backend, pipeline
from edgewhisper.backend import TorchBackend
from edgewhisper.checkpoints import Checkpoint
from edgewhisper.recipes import find_recipe
from edgewhisper.workspace import Workspace
from edgewhisper_runtime import audio, bundle
from edgewhisper_runtime.audio import features
from edgewhisper_runtime.decode.loop import Backend
from edgewhisper_runtime.engines import onnx, pytorch
from edgewhisper_runtime.errors import BundleError
from variants import stage_export

TOKENS = np.array([50257, 50362, 843, 257, 11, 262])


@pytest.fixture(scope="module")
def mels(speech: list[Path]) -> np.ndarray:
    """Two clips of 8 s."""
    clips = [audio.load(path)[: 8 * audio.SAMPLE_RATE] for path in speech[:2]]
    return np.stack([features.log_mel(clip, 80, 800) for clip in clips])


def attention(engine: Backend, tiny_en: Checkpoint, mels: np.ndarray) -> np.ndarray:
    heads = tiny_en.settings().alignment_heads
    return engine.attention(TOKENS, engine.encode(mels), 1, heads)


@pytest.fixture(scope="module")
def ours(tiny_en: Checkpoint, mels: np.ndarray) -> np.ndarray:
    return attention(TorchBackend(tiny_en.load()), tiny_en, mels)


def test_attention_is_what_the_model_says(
    tiny_en: Checkpoint, mels: np.ndarray, ours: np.ndarray
) -> None:
    import torch

    model = tiny_en.load()
    model.set_attn_implementation("eager")
    encoded = TorchBackend(model).encode(mels[1:])
    with torch.no_grad():
        said = model.model.decoder(
            input_ids=torch.from_numpy(TOKENS[None]),
            encoder_hidden_states=encoded,
            output_attentions=True,
        ).cross_attentions
    heads = tiny_en.settings().alignment_heads
    expected = np.stack([said[layer][0, head].numpy() for layer, head in heads])
    np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("to_format", ["onnx", "pytorch"])
def test_every_engine_attends_alike(
    tiny_en: Checkpoint, mels: np.ndarray, ours: np.ndarray, to_format: str
) -> None:
    directory = stage_export(tiny_en, find_recipe("fp32"), to_format=to_format)
    load = {"onnx": onnx.load, "pytorch": pytorch.load}[to_format]
    engine = load(directory, bundle.read_manifest(directory), "cpu", 2)
    np.testing.assert_allclose(attention(engine, tiny_en, mels), ours, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [{"mels": 128}, {"max_tokens": 449}, {"suppress": (51864,)}, {"alignment_heads": ((4, 0),)}],
)
def test_settings_that_do_not_fit_the_model_are_refused(
    workspace: Workspace, tiny_en: Checkpoint, change: dict[str, object]
) -> None:
    variant = pipeline.stage(workspace, tiny_en, find_recipe("fp32"))
    settings = replace(variant.manifest.settings, **change)
    with pytest.raises(BundleError, match="Build again"):
        backend.load(variant.path, replace(variant.manifest, settings=settings), "cpu", None)
