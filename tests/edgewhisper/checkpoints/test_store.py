"""Getting models: from a hub (on loopback), from a directory, from packages; and refusing."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import venv
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import Run
from edgewhisper.checkpoints import Checkpoint, cards, fetch, open_checkpoint, resolve
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.errors import CheckpointError, NetworkError
from loopback import Server, serve

REVISION = "0" * 40


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEWHISPER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def hub(tiny_en: Checkpoint, monkeypatch: pytest.MonkeyPatch):
    """A hub that has whisper-tiny.en as somebody/whisper."""
    names = ("config.json", "generation_config.json", "tokenizer.json", "model.safetensors")
    files = {
        f"/somebody/whisper/resolve/{REVISION}/{name}": (tiny_en.path / name).read_bytes()
        for name in names
    }
    with serve(files) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def hub_card(server: Server) -> cards.ModelCard:
    weights = server.files[f"/somebody/whisper/resolve/{REVISION}/model.safetensors"]
    pinned = cards.SourceFile(hashlib.sha256(weights).hexdigest(), len(weights))
    source = cards.Source("hub", {"model.safetensors": pinned}, "somebody/whisper", REVISION)
    return cards.ModelCard("whisper-test", 37_760_256, multilingual=False, sources=(source,))


def test_a_hub_model_is_fetched_once(hub: Server, own_home: Path, tiny_en: Checkpoint) -> None:
    checkpoint = fetch(Workspace.from_environment(), hub_card(hub))
    assert checkpoint.weights == tiny_en.weights
    assert checkpoint.provenance == {
        "kind": "hub",
        "repository": "somebody/whisper",
        "revision": REVISION,
    }
    before = len(hub.requests)
    assert fetch(Workspace.from_environment(), hub_card(hub)) == checkpoint
    assert len(hub.requests) == before


def test_a_broken_download_is_resumed(hub: Server, own_home: Path, tiny_en: Checkpoint) -> None:
    card = hub_card(hub)
    hub.break_after = 40_000_000
    try:
        checkpoint = fetch(Workspace.from_environment(), card)
    except NetworkError:
        checkpoint = fetch(Workspace.from_environment(), card)
    assert checkpoint.weights == tiny_en.weights
    resumed = [wanted for method, path, wanted in hub.requests if method == "GET" and wanted]
    assert any(int(wanted.removeprefix("bytes=").split("-")[0]) > 0 for wanted in resumed)


def test_altered_weights_are_refused_and_deleted(hub: Server, own_home: Path) -> None:
    card = hub_card(hub)
    path = f"/somebody/whisper/resolve/{REVISION}/model.safetensors"
    hub.files[path] = hub.files[path][:-1] + b"\x00"
    if hub.files[path][-1:] == b"\x00":
        hub.files[path] = hub.files[path][:-1] + b"\x01"
    with pytest.raises(CheckpointError, match="not what its card pins"):
        fetch(Workspace.from_environment(), card)
    assert not list((own_home / "checkpoints").glob("whisper-test"))


def test_a_file_the_hub_lacks(hub: Server, own_home: Path) -> None:
    del hub.files[f"/somebody/whisper/resolve/{REVISION}/tokenizer.json"]
    with pytest.raises(NetworkError, match="did not give somebody/whisper"):
        fetch(Workspace.from_environment(), hub_card(hub))


def test_an_environment_without_pip(
    own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `uv venv` makes them."""
    venv.create(tmp_path / "environment", symlinks=True)
    python = tmp_path / "environment" / "bin" / "python"
    monkeypatch.setattr(sys, "executable", str(python))
    source = cards.Source("packages", {}, packages=("whisper-weights==1.0",))
    card = cards.ModelCard("whisper-test", 37_760_256, multilingual=False, sources=(source,))
    with pytest.raises(NetworkError, match=f"not in this environment; `{python} -m ensurepip`"):
        fetch(Workspace.from_environment(), card)


@pytest.mark.parametrize("name", ["whisper-tiny.en", "tiny.en", "openai/whisper-tiny.en"])
def test_names(tiny_en: Checkpoint, name: str) -> None:
    assert resolve(Workspace.from_environment(), name) == tiny_en


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("giant", r"there is no model 'giant'\. Use one of whisper-tiny.*whisper-small"),
        ("whisper-smal", r"Did you mean whisper-small\?"),
        ("openai/whisper-larg-v3", r"Did you mean openai/whisper-large-v3\?"),
        ("somebody/my-model", "hf download somebody/my-model --local-dir DIR"),
    ],
)
def test_an_unknown_name(name: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        resolve(Workspace.from_environment(), name)


def test_every_size_has_a_card_with_pinned_hashes() -> None:
    sizes = {card.name.removeprefix("whisper-") for card in cards.all_cards()}
    english = {f"{size}.en" for size in ("tiny", "base", "small", "medium")}
    large = {"large-v1", "large-v2", "large-v3", "large-v3-turbo"}
    assert sizes == {"tiny", "base", "small", "medium"} | english | large
    for card in cards.all_cards():
        assert any(source.kind == "hub" for source in card.sources)
        for source in card.sources:
            assert source.kind != "hub" or len(source.revision) == 40
            for pinned in source.files.values():
                assert len(bytes.fromhex(pinned.sha256)) == 32
        assert card.multilingual != card.name.endswith(".en")


def test_a_fine_tune_works_by_path(tiny_en: Checkpoint, tmp_path: Path) -> None:
    from transformers import GenerationConfig, WhisperForConditionalGeneration

    tuned = tmp_path / "my-tune"
    model = WhisperForConditionalGeneration.from_pretrained(tiny_en.path)
    model.generation_config = GenerationConfig.from_pretrained(tiny_en.path)
    model.save_pretrained(tuned)
    shutil.copy(tiny_en.path / "tokenizer.json", tuned)
    checkpoint = resolve(Workspace.from_environment(), str(tuned))
    assert re.fullmatch("my-tune-[0-9a-f]{8}", checkpoint.name)
    assert checkpoint.settings() == tiny_en.settings()


def test_a_directory_is_taken_with_from(tiny_en: Checkpoint, own_home: Path) -> None:
    card = replace(cards.find_card("tiny.en"), name="whisper-mine")
    assert fetch(Workspace.from_environment(), card, tiny_en.path).weights == tiny_en.weights


def test_a_directory_of_another_model_is_refused(tiny_en: Checkpoint, own_home: Path) -> None:
    card = cards.find_card("base.en")
    with pytest.raises(CheckpointError, match="has 37,760,256 parameters, not"):
        fetch(Workspace.from_environment(), card, tiny_en.path)
    assert not list(own_home.rglob("*.safetensors"))


def test_the_same_directory_has_one_name_however_it_is_written(
    tiny_en: Checkpoint, tmp_path: Path
) -> None:
    for run in ("a", "b"):
        shutil.copytree(tiny_en.path, tmp_path / run / "checkpoint-1000")
    (tmp_path / "latest").symlink_to(tmp_path / "a" / "checkpoint-1000")
    places = ("a/checkpoint-1000", "a/checkpoint-1000/", "a/../b/checkpoint-1000", "latest")
    names = {resolve(Workspace.from_environment(), f"{tmp_path}/{place}").name for place in places}
    (name,) = names
    assert re.fullmatch("checkpoint-1000-[0-9a-f]{8}", name)
    assert resolve(Workspace.from_environment(), str(tiny_en.path)).name == "whisper-tiny.en", (
        "the store's has its card's name"
    )


@pytest.mark.parametrize("changed", ["model.safetensors", "generation_config.json"])
def test_two_runs_with_the_same_checkpoint_number_have_two_names(
    tiny_en: Checkpoint, tmp_path: Path, changed: str
) -> None:
    first, second = (
        Path(shutil.copytree(tiny_en.path, tmp_path / run / "checkpoint-1000")) for run in "ab"
    )
    (second / "source.json").unlink()
    if changed == "model.safetensors":
        with (second / changed).open("r+b") as file:
            file.seek(-1, 2)
            file.write(b"\xff")
    else:
        content = json.loads((second / changed).read_text())
        (second / changed).write_text(json.dumps(content | {"suppress_tokens": [1, 2, 3]}))
    assert (
        open_checkpoint(Workspace.from_environment(), first).name
        != open_checkpoint(Workspace.from_environment(), second).name
    )


@pytest.mark.parametrize("name", ["модель", "...", "a" * 200, "my model; rm -rf"])
def test_a_name_of_any_directory_is_one_for_files(
    tiny_en: Checkpoint, tmp_path: Path, name: str
) -> None:
    copy = Path(shutil.copytree(tiny_en.path, tmp_path / name))
    assert re.fullmatch(
        "[A-Za-z0-9][A-Za-z0-9._-]{0,39}", open_checkpoint(Workspace.from_environment(), copy).name
    )


@pytest.mark.parametrize("within", [".", "adapter_model"])
def test_an_adapter_is_to_be_merged(tmp_path: Path, within: str, run: Run) -> None:
    directory = tmp_path / within
    directory.mkdir(exist_ok=True)
    (directory / "adapter_model.safetensors").touch()
    (directory / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": "openai/whisper-small", "peft_type": "LORA"})
    )
    result = run("build", "--model", tmp_path, "--recipe", "onnx-int8", "--limit", 1)
    assert result.returncode == 4
    assert "adapter (LoRA, PEFT) of 'openai/whisper-small'" in result.stderr
    assert "merge_and_unload" in result.stderr


def test_weights_in_several_files(tiny_en: Checkpoint, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_en.path, tmp_path / "copy"))
    (copy / "source.json").unlink()
    model = tiny_en.load()
    (copy / "model.safetensors").unlink()
    model.save_pretrained(copy, max_shard_size="80MB")
    shutil.copy(tiny_en.path / "generation_config.json", copy)
    checkpoint = open_checkpoint(Workspace.from_environment(), copy)
    assert len(checkpoint.weights) > 1
    for name, parameter in checkpoint.load().named_parameters():
        assert parameter.equal(model.get_parameter(name))
    shard = copy / max(checkpoint.weights)
    shard.unlink()
    with pytest.raises(CheckpointError, match=f"{shard.name} is missing"):
        open_checkpoint(Workspace.from_environment(), copy)


FETCH = """
from edgewhisper.checkpoints import resolve
from edgewhisper.workspace import Workspace
print(resolve(Workspace.from_environment(), "tiny.en").weights)
"""


def test_processes_that_fetch_at_once_get_one_model(tiny_en: Checkpoint, own_home: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FETCH],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        stdout, stderr = process.communicate(timeout=300)
        assert process.returncode == 0, stderr
        assert stdout == f"{tiny_en.weights}\n"
    assert [path.name for path in (own_home / "checkpoints").iterdir()] == ["whisper-tiny.en"]


@pytest.mark.parametrize("missing", ["config.json", "generation_config.json", "tokenizer.json"])
def test_an_incomplete_checkpoint(tiny_en: Checkpoint, tmp_path: Path, missing: str) -> None:
    copy = Path(shutil.copytree(tiny_en.path, tmp_path / "copy"))
    (copy / missing).unlink()
    with pytest.raises(CheckpointError, match=missing):
        open_checkpoint(Workspace.from_environment(), copy)


def test_an_older_tokenizer_is_to_be_saved_anew(tiny_en: Checkpoint, tmp_path: Path) -> None:
    from transformers import WhisperTokenizerFast

    copy = Path(shutil.copytree(tiny_en.path, tmp_path / "copy"))
    content = json.loads((copy / "tokenizer.json").read_text())
    merges = (m if isinstance(m, str) else " ".join(m) for m in content["model"]["merges"])
    added = {token["content"]: token["id"] for token in content["added_tokens"]}
    (copy / "vocab.json").write_text(json.dumps(content["model"]["vocab"]))
    (copy / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    (copy / "added_tokens.json").write_text(json.dumps(added))
    (copy / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError) as refused:
        open_checkpoint(Workspace.from_environment(), copy)
    told = f"WhisperTokenizerFast.from_pretrained({str(copy)!r}).save_pretrained({str(copy)!r})"
    assert told in str(refused.value)
    WhisperTokenizerFast.from_pretrained(copy).save_pretrained(copy)
    assert open_checkpoint(Workspace.from_environment(), copy).architecture == tiny_en.architecture


def test_pickled_weights_are_refused(tiny_en: Checkpoint, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_en.path, tmp_path / "copy"))
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin, which could run code"):
        open_checkpoint(Workspace.from_environment(), copy)


def test_a_missing_weight_is_not_made_up(tiny_en: Checkpoint, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    copy = Path(shutil.copytree(tiny_en.path, tmp_path / "my tuned (v2)"))
    (copy / "source.json").unlink()
    tensors = load_file(copy / "model.safetensors")
    del tensors["model.encoder.layers.1.fc1.weight"]
    save_file(tensors, copy / "model.safetensors", {"format": "pt"})
    checkpoint = open_checkpoint(Workspace.from_environment(), copy)
    assert checkpoint.name.startswith("my-tuned-v2-")
    with pytest.raises(CheckpointError, match=r"lacks model\.encoder\.layers\.1\.fc1\.weight"):
        checkpoint.load()
    (copy / "model.safetensors").write_bytes(b"no safetensors")
    with pytest.raises(CheckpointError, match="could not be loaded"):
        open_checkpoint(Workspace.from_environment(), copy).load()


def test_weights_that_the_config_has_no_place_for(tiny_en: Checkpoint, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_en.path, tmp_path / "_mine"))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"decoder_layers": 2}))
    checkpoint = open_checkpoint(Workspace.from_environment(), copy)
    assert checkpoint.name.startswith("mine-")
    with pytest.raises(CheckpointError, match=r"has no place for model\.decoder\.layers\.2\."):
        checkpoint.load()


def test_another_kind_of_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(CheckpointError, match="'bert' model, not Whisper"):
        open_checkpoint(Workspace.from_environment(), tmp_path)


def test_weights_changed_after_the_fetch(tiny_en: Checkpoint, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_en.path, tmp_path / "copy"))
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(10**6)
        file.write(b"\xff")
    with pytest.raises(CheckpointError, match="not what was fetched"):
        open_checkpoint(Workspace.from_environment(), copy)
