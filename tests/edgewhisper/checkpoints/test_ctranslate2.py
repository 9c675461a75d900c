"""Converted checkpoints against CTranslate2 itself, on the same weights and real speech."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from edgewhisper.backend import TorchBackend
from edgewhisper.checkpoints import Checkpoint, cards, ctranslate2, open_checkpoint
from edgewhisper.workspace import Workspace
from edgewhisper_runtime import audio
from edgewhisper_runtime.audio import features
from edgewhisper_runtime.decode.window import Request, WindowDecoder
from edgewhisper_runtime.engines.groups import Grouped
from edgewhisper_runtime.errors import CheckpointError
from edgewhisper_runtime.options import PLAIN
from edgewhisper_runtime.text.tokens import Tokenizer


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The packages' own CTranslate2 files, by model."""
    found = {}
    for card in cards.all_cards():
        for source in card.sources:
            if source.kind != "packages":
                continue
            directory = tmp_path_factory.mktemp(card.name)
            for name, pinned in source.files.items():
                with (directory / name).open("wb") as target:
                    for part in pinned.parts:
                        target.write(package_file(source.packages, part).read_bytes())
            vocabulary = package_file(source.packages, "vocabulary.txt")
            (directory / vocabulary.name).write_bytes(vocabulary.read_bytes())
            found[card.name] = directory
    return found


def package_file(packages: tuple[str, ...], ending: str) -> Path:
    for package in packages:
        for file in metadata.distribution(package.split("==")[0]).files or ():
            if str(file).endswith(ending):
                return Path(str(file.locate()))
    raise AssertionError(ending)


@pytest.mark.parametrize(("model", "clips"), [("tiny_en", 2), ("base", 1)])
def test_encoder_logits_and_tokens_equal_ctranslate2(
    model: str,
    clips: int,
    originals: dict[str, Path],
    speech: list[Path],
    request: pytest.FixtureRequest,
) -> None:
    import torch
    from ctranslate2 import StorageView
    from ctranslate2.models import Whisper
    from transformers import WhisperForConditionalGeneration

    checkpoint: Checkpoint = request.getfixturevalue(model)
    reference = Whisper(str(originals[checkpoint.name]), compute_type="float32")
    backend = TorchBackend(
        WhisperForConditionalGeneration.from_pretrained(checkpoint.path, dtype=torch.float32)
    )
    tokenizer = Tokenizer(checkpoint.path / "tokenizer.json")
    settings = checkpoint.settings()
    prompt = tokenizer.prompt("en")
    decoder = WindowDecoder(Grouped(backend), tokenizer, settings, adaptive=False)
    request = Request(replace(PLAIN, language="en"), timestamps=False)
    for path in speech[1 : 1 + clips]:
        mels = features.log_mel(audio.load(path), settings.mels)[None]
        encoded = backend.encode(mels)
        theirs = reference.encode(StorageView.from_array(mels))
        expected = np.asarray(theirs)
        assert np.abs(encoded.numpy() - expected).max() < 2e-3 * np.abs(expected).max()

        result = reference.generate(
            theirs, [prompt], beam_size=1, return_logits_vocab=True, sampling_topk=1
        )[0]
        tokens = decoder.decode(audio.load(path), request).tokens
        assert tokens == result.sequences_ids[0]

        cache = backend.start(encoded)
        step = np.array([prompt])
        for token, their_logits in zip(tokens, result.logits[0], strict=False):
            logits = torch.from_numpy(backend.step(step, cache)[0]).log_softmax(0).numpy()
            wanted = torch.from_numpy(np.asarray(their_logits).copy()).log_softmax(0).numpy()
            allowed = np.isfinite(wanted) & (wanted > -60)
            gap = (logits - wanted)[allowed]
            # Suppressed ids are masked there before the softmax: a constant shift is no difference.
            assert np.abs(gap - np.median(gap)).max() < 2e-3
            step = np.array([[token]])


def test_weights_are_the_float16_ones_of_the_file(
    originals: dict[str, Path], base: Checkpoint
) -> None:
    from safetensors.numpy import load_file

    raw = (originals["whisper-base"] / "model.bin").read_bytes()
    tensors = load_file(base.path / "model.safetensors")
    assert {str(tensor.dtype) for tensor in tensors.values()} == {"float16"}
    for name in ("model.decoder.embed_tokens.weight", "model.encoder.conv1.weight"):
        assert tensors[name].tobytes() in raw
    parameters = sum(tensor.size for tensor in tensors.values())
    assert parameters == cards.find_card("base").parameters


def test_a_damaged_file_is_refused(originals: dict[str, Path], tmp_path: Path) -> None:
    source = originals["whisper-tiny.en"]
    raw = (source / "model.bin").read_bytes()
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    damaged = {
        "cut short": raw[: len(raw) // 2],
        "empty": b"",
        "wrong version": b"\x07" + raw[1:],
        "another model": raw.replace(b"WhisperSpec", b"WhisperSpoc", 1),
        "huge sizes": raw[:26] + b"\xff" * 8 + raw[34:],
    }
    for content in damaged.values():
        (tmp_path / "model.bin").write_bytes(content)
        with pytest.raises(CheckpointError):
            ctranslate2.convert(tmp_path, tmp_path)
    (tmp_path / "model.bin").write_bytes(raw)
    for name in ("config.json", "tokenizer.json"):
        good = (tmp_path / name).read_text()
        for content in ("", "[]", "{}"):
            (tmp_path / name).write_text(content)
            with pytest.raises(CheckpointError):
                ctranslate2.convert(tmp_path, tmp_path)
        (tmp_path / name).write_text(good)


def test_the_checkpoint_is_one_that_transformers_reads(base: Checkpoint) -> None:
    from transformers import GenerationConfig, WhisperTokenizerFast

    config = json.loads((base.path / "config.json").read_text())
    assert (config["d_model"], config["encoder_layers"], config["vocab_size"]) == (512, 6, 51865)
    assert GenerationConfig.from_pretrained(base.path).lang_to_id["<|de|>"] == 50261
    assert WhisperTokenizerFast.from_pretrained(base.path).decode([2425]) == " Hello"
    assert open_checkpoint(Workspace.from_environment(), base.path) == base
