"""What a checkpoint says is supported, or refused by name before any work."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgewhisper.checkpoints import Checkpoint, open_checkpoint
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.errors import CheckpointError

Change = Callable[..., Path]


@pytest.fixture
def changed(tiny_en: Checkpoint, tmp_path: Path) -> Change:
    """Copy whisper-tiny.en with other values in one of its JSON files; None removes a key."""

    def change(name: str, **values: Any) -> Path:
        copy = Path(shutil.copytree(tiny_en.path, tmp_path / "copy", dirs_exist_ok=True))
        path = copy / name
        content = json.loads(path.read_text()) if path.exists() else {}
        content = {key: value for key, value in (content | values).items() if value is not None}
        path.write_text(json.dumps(content))
        return copy

    return change


def test_a_checkpoint_is_read_once(tiny_en: Checkpoint) -> None:
    read = tiny_en.architecture
    assert (read.encoder_layers, read.decoder_layers) == (4, 4)
    assert (read.encoder_heads, read.decoder_heads, read.width) == (6, 6, 384)
    assert (read.encoder_ffn_width, read.decoder_ffn_width) == (1536, 1536)
    assert (read.mels, read.target_positions, read.vocabulary) == (80, 448, 51864)
    assert read.suppress[-1] == 50361
    assert read.suppress_first == (220, 50256)
    assert read.alignment_heads[0] == (1, 0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("encoder_attention_heads", 0),
        ("decoder_attention_heads", 7),
        ("d_model", "wide"),
        ("d_model", True),
        ("encoder_layers", 2**31),
        ("decoder_layers", -1),
        ("decoder_ffn_dim", 1536.5),
        ("activation_function", "relu"),
        ("activation_function", "gelu_new"),
        ("max_source_positions", 750),
        ("max_source_positions", 3000),
        ("max_target_positions", 1),
        ("num_mel_bins", 81),
        ("vocab_size", 51_000),
        ("vocab_size", None),
        ("decoder_start_token_id", 50258),
        ("quantization_config", {"quant_method": "bitsandbytes"}),
        ("architectures", ["WhisperForAudioClassification"]),
    ],
)
def test_a_config_that_is_not_supported(changed: Change, name: str, value: Any) -> None:
    copy = changed("config.json", **{name: value})
    wanted = {"quantization_config": "quantized before", "architectures": "AudioClassification"}
    with pytest.raises(CheckpointError, match=wanted.get(name, name)):
        open_checkpoint(Workspace.from_environment(), copy)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("activation_function", "gelu_python"),
        ("scale_embedding", True),  # which transformers does not apply
        ("dropout", 0.1),
        ("apply_spec_augment", True),
    ],
)
def test_a_config_that_computes_the_same(
    changed: Change, tiny_en: Checkpoint, name: str, value: Any
) -> None:
    copy = changed("config.json", **{name: value})
    assert open_checkpoint(Workspace.from_environment(), copy).architecture == tiny_en.architecture


@pytest.mark.parametrize(
    ("name", "value"),
    [("sampling_rate", 8000), ("hop_length", 320), ("chunk_length", 15), ("dither", 0.1)],
)
def test_other_features_are_refused(changed: Change, name: str, value: float) -> None:
    with pytest.raises(CheckpointError, match=f"{name} = {value} is not supported"):
        open_checkpoint(
            Workspace.from_environment(), changed("preprocessor_config.json", **{name: value})
        )


def test_the_features_that_transformers_saves(changed: Change, tiny_en: Checkpoint) -> None:
    from transformers import WhisperFeatureExtractor

    copy = changed("config.json")
    extractor = WhisperFeatureExtractor()
    extractor.save_pretrained(copy)
    assert open_checkpoint(Workspace.from_environment(), copy).architecture == tiny_en.architecture
    (copy / "preprocessor_config.json").unlink()
    copy = changed("processor_config.json", feature_extractor=extractor.to_dict())
    assert open_checkpoint(Workspace.from_environment(), copy).architecture == tiny_en.architecture
    wrong = extractor.to_dict() | {"n_fft": 512}
    with pytest.raises(CheckpointError, match="n_fft = 512"):
        open_checkpoint(
            Workspace.from_environment(), changed("processor_config.json", feature_extractor=wrong)
        )


@pytest.mark.parametrize("named", [None, [], [[3, 0], [5, 1]], [[0, 6]], [[-1, 0]]])
def test_alignment_heads_that_are_not_there_are_the_upper_half(
    changed: Change, named: list[list[int]] | None, caplog: pytest.LogCaptureFixture
) -> None:
    copy = changed("generation_config.json", alignment_heads=named)
    heads = open_checkpoint(Workspace.from_environment(), copy).settings().alignment_heads
    assert heads == tuple((layer, head) for layer in (2, 3) for head in range(6))
    assert ("all heads of its upper half" in caplog.text) == bool(named)


def test_suppressed_ids_beyond_the_vocabulary(
    changed: Change, caplog: pytest.LogCaptureFixture
) -> None:
    copy = changed("generation_config.json", suppress_tokens=[5, 60_000], begin_suppress_tokens=[])
    read = open_checkpoint(Workspace.from_environment(), copy).architecture
    assert (read.suppress, read.suppress_first) == ((5,), ())
    assert "1 ids of suppress_tokens are beyond the vocabulary" in caplog.text


@pytest.mark.parametrize("ids", [[-1], ["1"], "all", {"1": 2}, [[1]]])
def test_suppressed_ids_that_are_none(changed: Change, ids: Any) -> None:
    with pytest.raises(CheckpointError, match="suppress_tokens is no list of token ids"):
        open_checkpoint(
            Workspace.from_environment(), changed("generation_config.json", suppress_tokens=ids)
        )


def test_rows_without_a_token_are_never_decoded(changed: Change, tiny_en: Checkpoint) -> None:
    read = open_checkpoint(
        Workspace.from_environment(), changed("config.json", vocab_size=51_872)
    ).architecture
    assert read.suppress == (*tiny_en.architecture.suppress, *range(51_864, 51_872))


def test_a_tokenizer_of_another_model(changed: Change, base: Checkpoint) -> None:
    copy = changed("config.json")
    shutil.copy(base.path / "tokenizer.json", copy)
    with pytest.raises(CheckpointError, match=r"has id 51864 for '<\|30\.00\|>'.*vocab_size"):
        open_checkpoint(Workspace.from_environment(), copy)
    changed("tokenizer.json", added_tokens=[])
    with pytest.raises(CheckpointError, match="not a Whisper tokenizer"):
        open_checkpoint(Workspace.from_environment(), copy)


@pytest.mark.parametrize("content", ["[1]", "{", "\ud800", "[" * 100_000])
def test_files_that_hold_no_object(tiny_en: Checkpoint, tmp_path: Path, content: str) -> None:
    copy = Path(shutil.copytree(tiny_en.path, tmp_path / "copy"))
    (copy / "config.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(CheckpointError, match=r"holds no JSON object|could not be read"):
        open_checkpoint(Workspace.from_environment(), copy)
