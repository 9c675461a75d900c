"""The TorchScript backend behind the loop's seam, on an exported whisper-tiny.en."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgewhisper import pipeline
from edgewhisper.checkpoints import Checkpoint
from edgewhisper.recipes import find_recipe
from edgewhisper_runtime import audio, bundle
from edgewhisper_runtime.audio import features
from edgewhisper_runtime.engines.torchscript import FILE, TorchScriptBackend, load
from edgewhisper_runtime.errors import BundleError, EdgeWhisperError

if TYPE_CHECKING:
    from conftest import Run

TOKENS = np.array([[50257, 50362, 843, 11]] * 2)


@pytest.fixture(scope="module")
def directory(tiny_en: Checkpoint) -> Path:
    recipe = find_recipe("fp32")
    return pipeline.stage_export(tiny_en, recipe, to_format="torchscript")


@pytest.fixture(scope="module")
def backend(directory: Path) -> TorchScriptBackend:
    return TorchScriptBackend(directory / FILE, threads=2)


@pytest.fixture(scope="module")
def batch(speech: list[Path]) -> np.ndarray:
    return np.stack(
        [features.log_mel(audio.load(path)[: 8 * 16000], 80, 800) for path in speech[:2]]
    )


def test_tokens_one_by_one_are_tokens_at_once(
    backend: TorchScriptBackend, batch: np.ndarray
) -> None:
    encoded = backend.encode(batch)
    at_once = backend.step(TOKENS, backend.start(encoded))
    for first in (1, 3):
        cache = backend.start(encoded)
        backend.step(TOKENS[:, :first], cache)
        np.testing.assert_allclose(backend.step(TOKENS[:, first:], cache), at_once, atol=1e-3)


def test_reordered_rows_go_on_where_they_were(
    backend: TorchScriptBackend, batch: np.ndarray
) -> None:
    cache = backend.start(backend.encode(batch))
    backend.step(TOKENS[:, :3], cache)
    swapped = backend.reorder(cache, np.array([1, 0, 1]))
    expected = backend.step(TOKENS[:, 3:], cache)
    found = backend.step(TOKENS[[0, 0, 0], 3:], swapped)
    np.testing.assert_allclose(found, expected[[1, 0, 1]], atol=1e-3)


def test_beams_are_what_each_would_be_alone(backend: TorchScriptBackend, batch: np.ndarray) -> None:
    encoded = backend.encode(batch)
    cache = backend.start(encoded)
    backend.step(TOKENS[:, :2], cache)
    histories = [(clip, [*TOKENS[clip, :2]]) for clip in (0, 1)]
    for rows in ([0, 0, 1, 1], [1, 0, 3, 3], [0, 1, 3]):
        tokens = [843 + row for row in range(len(rows))]
        cache = backend.reorder(cache, np.array(rows))
        shared = cache.cross is encoded
        assert shared == (len(rows) == 4)
        logits = backend.step(np.array(tokens)[:, None], cache)
        chosen = [histories[row] for row in rows]
        histories = [(clip, [*h, t]) for (clip, h), t in zip(chosen, tokens, strict=True)]
    for (clip, history), found in zip(histories, logits, strict=True):
        own = tuple(tensor[clip : clip + 1] for tensor in encoded)
        alone = backend.step(np.array([history]), backend.start(own))
        np.testing.assert_allclose(found, alone[0], atol=1e-3)


def test_the_runtime_s_commands_on_an_exported_bundle(
    directory: Path, run: Run, speech: list[Path]
) -> None:
    script = "edgewhisper-runtime"
    found = run("transcribe", speech[1], "--bundle", directory, "--json", script=script)
    assert json.loads(found.stdout)["text"]
    arguments = ("--audio", speech[1], "--repeat", "1", "--json")
    report = json.loads(run("profile", directory, *arguments, script=script).stdout)
    assert report["summary"]["rtf"] > 0
    assert report["installed"]["torch"] > 100e6
    assert "transformers" not in report["installed"]


def test_what_is_no_export_is_refused(directory: Path, tmp_path: Path) -> None:
    import torch

    broken = tmp_path / "broken.pt"
    broken.write_bytes((directory / FILE).read_bytes()[:100_000])
    with pytest.raises(BundleError, match=r"broken\.pt"):
        TorchScriptBackend(broken)
    other = tmp_path / "other.pt"
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(other)
    with pytest.raises(BundleError, match="no encode"):
        TorchScriptBackend(other)


def test_a_program_that_does_more_than_an_export_is_refused(tmp_path: Path) -> None:
    """TorchScript can write files; what is refused must not have run."""
    import torch

    path = tmp_path / "model.pt"

    class Spy(torch.nn.Module):
        def forward(self, features: torch.Tensor, name: str) -> torch.Tensor:
            torch.save(features, name)
            return features

    torch.jit.script(Spy()).save(path)
    with pytest.raises(BundleError, match=r"model\.pt calls .*save, which no export does"):
        TorchScriptBackend(path)
    path.write_bytes(b"PTMF" + path.read_bytes())
    with pytest.raises(BundleError, match="not a TorchScript file"):
        TorchScriptBackend(path)


def test_a_bundle_without_its_file_or_for_another_device_is_refused(directory: Path) -> None:
    manifest = bundle.read_manifest(directory)
    with pytest.raises(EdgeWhisperError, match="does not run on 'cuda'"):
        load(directory, manifest, "cuda", None)
    with pytest.raises(BundleError, match=r"lacks model\.pt"):
        load(directory, replace(manifest, files={}), "cpu", None)
