"""The PyTorch backend behind the loop's seam, on an exported whisper-tiny.en."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgewhisper_runtime import audio, bundle
from edgewhisper_runtime.audio import features
from edgewhisper_runtime.engines.pytorch import FILE, PytorchBackend, load
from edgewhisper_runtime.errors import BundleError, EdgeWhisperError

if TYPE_CHECKING:
    from conftest import BundleOf, Run

TOKENS = np.array([[50257, 50362, 843, 11]] * 2)


@pytest.fixture(scope="module")
def directory(bundle_of: BundleOf) -> Path:
    return bundle_of("whisper-tiny.en", "fp32", "pytorch")


@pytest.fixture(scope="module")
def backend(directory: Path) -> PytorchBackend:
    return PytorchBackend(directory / FILE, threads=2)


@pytest.fixture(scope="module")
def batch(speech: list[Path]) -> np.ndarray:
    return np.stack(
        [features.log_mel(audio.load(path)[: 8 * 16000], 80, 800) for path in speech[:2]]
    )


def test_tokens_one_by_one_are_tokens_at_once(backend: PytorchBackend, batch: np.ndarray) -> None:
    encoded = backend.encode(batch)
    at_once = backend.step(TOKENS, backend.start(encoded))
    for first in (1, 3):
        cache = backend.start(encoded)
        backend.step(TOKENS[:, :first], cache)
        np.testing.assert_allclose(backend.step(TOKENS[:, first:], cache), at_once, atol=1e-3)


def test_reordered_rows_go_on_where_they_were(backend: PytorchBackend, batch: np.ndarray) -> None:
    cache = backend.start(backend.encode(batch))
    backend.step(TOKENS[:, :3], cache)
    swapped = backend.reorder(cache, np.array([1, 0, 1]))
    expected = backend.step(TOKENS[:, 3:], cache)
    found = backend.step(TOKENS[[0, 0, 0], 3:], swapped)
    np.testing.assert_allclose(found, expected[[1, 0, 1]], atol=1e-3)


def test_beams_are_what_each_would_be_alone(backend: PytorchBackend, batch: np.ndarray) -> None:
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


def test_a_bundle_without_its_file_or_for_another_device_is_refused(directory: Path) -> None:
    manifest = bundle.read_manifest(directory)
    with pytest.raises(EdgeWhisperError, match="does not run on 'cuda'"):
        load(directory, manifest, "cuda", None)
    with pytest.raises(BundleError, match=f"lacks {FILE}"):
        load(directory, replace(manifest, files={}), "cpu", None)


LAYER, EMBEDDING = "model.encoder.layers.0.fc1", "model.decoder.embed_tokens"
NORM = "model.decoder.layer_norm.weight"
# Of an embedding in int8 and all Linear layers dynamic: what is done to the tensors.
DAMAGED_TENSORS: dict[str, Callable[[Any], object]] = {
    "a layer's scale missing": lambda t: t.pop(f"{LAYER}.scale"),
    "a layer's integers missing": lambda t: t.pop(f"{LAYER}.int8"),
    "a norm missing": lambda t: t.pop(NORM),
    "the embedding missing": lambda t: t.pop(f"{EMBEDDING}.int8"),
    "the encoder's first layer missing": lambda t: [t.pop(n) for n in [*t] if ".layers.0." in n],
    "a layer in the middle missing": lambda t: [
        t.pop(name) for name in [*t] if name.startswith("model.decoder.layers.2.")
    ],
    "one tensor more": lambda t: t.update({"model.more": t[NORM].clone()}),
    "one more in a layer": lambda t: t.update({f"{LAYER}.zero": t[NORM].clone()}),
    "a layer of another width": lambda t: t.update({f"{LAYER}.int8": t[f"{LAYER}.int8"][:, :-1]}),
    "a norm of another width": lambda t: t.update({NORM: t[NORM][:-1]}),
    "a flat convolution": lambda t: t.update(
        {"model.encoder.conv1.weight": t["model.encoder.conv1.weight"].flatten()}
    ),
    "integers in float": lambda t: t.update({f"{LAYER}.int8": t[f"{LAYER}.int8"].float()}),
    "integers without a sign": lambda t: t.update({f"{LAYER}.int8": t[f"{LAYER}.int8"].byte()}),
    "a norm in half precision": lambda t: t.update({NORM: t[NORM].half()}),
    "a norm in integers": lambda t: t.update({NORM: t[NORM].int()}),
    "a norm in complex numbers": lambda t: t.update({NORM: t[NORM].cfloat()}),
    "no audio positions": lambda t: t.update(
        {"model.encoder.embed_positions.weight": t["model.encoder.embed_positions.weight"][:0]}
    ),
    "a scale of nan": lambda t: t[f"{LAYER}.scale"].fill_(float("nan")),
    "a scale of infinity": lambda t: t[f"{LAYER}.scale"].fill_(float("inf")),
    "a scale beyond float32": lambda t: t[f"{LAYER}.scale"].fill_(1e300),
    "a scale of 0": lambda t: t[f"{LAYER}.scale"].fill_(0),
    "a scale below 0": lambda t: t[f"{LAYER}.scale"].neg_(),
    "a zero point of nan": lambda t: t[f"{EMBEDDING}.zero"].fill_(float("nan")),
    "a bias of infinity": lambda t: t[f"{LAYER}.bias"].fill_(float("inf")),
    "a norm of nan": lambda t: t[NORM].fill_(float("nan")),
}
DYNAMIC = {"kind": "dynamic", "activations": "uint8"}
# ... and to the metadata, the entries `layers` and `heads`.
DAMAGED_METADATA: dict[str, Callable[[Any], object]] = {
    "no heads": lambda m: m.pop("heads"),
    "no layers": lambda m: m.pop("layers"),
    "layers in a list": lambda m: m.update(layers=[]),
    "heads in a list": lambda m: m.update(heads=[6, 6]),
    "heads that do not divide": lambda m: m["heads"].update(encoder=5),
    "no head": lambda m: m["heads"].update(decoder=0),
    "heads below 0": lambda m: m["heads"].update(decoder=-6),
    "heads as text": lambda m: m["heads"].update(decoder="6"),
    "heads in part": lambda m: m["heads"].update(decoder=6.0),
    "a layer of an unknown kind": lambda m: m["layers"].update({LAYER: {"kind": "python"}}),
    "a layer of no kind": lambda m: m["layers"].update({LAYER: 7}),
    "activations of an unknown type": lambda m: m["layers"][LAYER].update(activations="int4"),
    "an embedding for a Linear layer": lambda m: m["layers"].update({LAYER: {"kind": "embedding"}}),
    "a Linear layer for the embedding": lambda m: m["layers"].update({EMBEDDING: DYNAMIC}),
    "a norm as a layer": lambda m: m["layers"].update({"model.decoder.layer_norm": DYNAMIC}),
    "the model as a layer": lambda m: m["layers"].update({"": DYNAMIC}),
    "a layer that is not there": lambda m: m["layers"].update({"model.encoder.fc9": DYNAMIC}),
    "a layer left out": lambda m: m["layers"].pop(LAYER),
    "a static layer without its range": lambda m: m["layers"].update({LAYER: {"kind": "static"}}),
}


@pytest.fixture(scope="module")
def int8(bundle_of: BundleOf) -> Path:
    return bundle_of("whisper-tiny.en", "pytorch-int8-embedding", "pytorch") / FILE


def rewritten(
    source: Path,
    target: Path,
    tensors: Callable[[Any], object] = lambda _: None,
    metadata: Callable[[Any], object] = lambda _: None,
) -> Path:
    """Write a file anew with its tensors and its metadata, JSON, changed."""
    from safetensors.torch import load_file, safe_open, save_file

    content = {name: tensor.clone() for name, tensor in load_file(source).items()}
    with safe_open(source, "pt") as file:
        entries = {key: json.loads(value) for key, value in file.metadata().items()}
    tensors(content)
    metadata(entries)
    save_file(
        {name: tensor.contiguous() for name, tensor in content.items()},
        target,
        {key: json.dumps(value) for key, value in entries.items()},
    )
    return target


@pytest.mark.parametrize("damage", DAMAGED_TENSORS)
def test_tensors_that_make_no_model_are_refused(int8: Path, tmp_path: Path, damage: str) -> None:
    path = rewritten(int8, tmp_path / FILE, tensors=DAMAGED_TENSORS[damage])
    with pytest.raises(BundleError, match=FILE) as error:
        PytorchBackend(path)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("damage", DAMAGED_METADATA)
def test_metadata_that_makes_no_model_is_refused(int8: Path, tmp_path: Path, damage: str) -> None:
    path = rewritten(int8, tmp_path / FILE, metadata=DAMAGED_METADATA[damage])
    with pytest.raises(BundleError, match=FILE) as error:
        PytorchBackend(path)
    assert len(str(error.value).splitlines()) == 1


def test_a_file_that_is_rewritten_unchanged_opens(int8: Path, tmp_path: Path) -> None:
    assert PytorchBackend(rewritten(int8, tmp_path / FILE)).sizes.vocabulary == 51864


def test_what_is_no_such_file_is_refused(directory: Path, tmp_path: Path) -> None:
    path = tmp_path / FILE
    content = (directory / FILE).read_bytes()
    header = b'{"a":{"dtype":"F32","shape":[%d,%d],"data_offsets":[0,4]}}'
    huge = header % (2**62, 4)
    for damaged in (
        b"",
        content[:7],
        content[:100_000],
        b"\xff" * 8 + content[8:],
        b"PK\x03\x04" + content[:1000],
        len(huge).to_bytes(8, "little") + huge + bytes(4),
    ):
        path.write_bytes(damaged)
        with pytest.raises(BundleError, match=FILE):
            PytorchBackend(path)


def test_a_name_with_control_characters_stays_out_of_the_message(
    int8: Path, tmp_path: Path
) -> None:
    def add(tensors: Any) -> None:
        tensors["\x1b[2J\nmore"] = tensors[NORM].clone()

    with pytest.raises(BundleError) as error:
        PytorchBackend(rewritten(int8, tmp_path / FILE, tensors=add))
    assert str(error.value).isprintable()


@pytest.mark.parametrize("name", [NORM, "model.encoder.conv1.weight", f"{LAYER}.scale"])
def test_weights_that_overflow_are_refused_when_they_do(
    int8: Path, tmp_path: Path, batch: np.ndarray, name: str
) -> None:
    """Each number is finite, what they compute is not."""
    huge = PytorchBackend(rewritten(int8, tmp_path / FILE, tensors=lambda t: t[name].fill_(3e38)))
    with pytest.raises(BundleError, match=r"cannot run|no finite numbers"):
        huge.step(TOKENS, huge.start(huge.encode(batch)))


def test_a_vocabulary_too_small_for_the_tokens_is_refused(
    int8: Path, tmp_path: Path, batch: np.ndarray
) -> None:
    def cut(tensors: Any) -> None:
        for name in ("model.decoder.embed_tokens", "proj_out"):
            for kind in ("int8", "scale", "zero"):
                if f"{name}.{kind}" in tensors:
                    tensors[f"{name}.{kind}"] = tensors[f"{name}.{kind}"][:50000]

    small = PytorchBackend(rewritten(int8, tmp_path / FILE, tensors=cut))
    with pytest.raises(BundleError, match="has 50000 tokens"):
        small.step(TOKENS, small.start(small.encode(batch)))


def test_settings_that_do_not_fit_the_file_are_refused(directory: Path) -> None:
    manifest = bundle.read_manifest(directory)
    for change in ({"mels": 128}, {"max_tokens": 449}, {"suppress": (51864,)}):
        unfit = replace(manifest, settings=replace(manifest.settings, **change))
        with pytest.raises(BundleError, match="do not fit"):
            load(directory, unfit, "cpu", None)
    heads = replace(manifest.settings, alignment_heads=((4, 0),))
    with pytest.raises(BundleError, match="alignment heads"):
        load(directory, replace(manifest, settings=heads), "cpu", None)


def test_a_torchscript_bundle_is_refused_by_name(
    directory: Path, tmp_path: Path, run: Run, speech: list[Path]
) -> None:
    old = tmp_path / "old"
    old.mkdir()
    (old / "model.pt").write_bytes(b"PK\x03\x04")
    manifest = replace(
        bundle.read_manifest(directory), backend="torchscript", files=bundle.describe_files(old)
    )
    bundle.write_manifest(old, manifest)
    script = "edgewhisper-runtime"
    for command in (
        ("verify", old),
        ("transcribe", speech[0], "--bundle", old),
        ("profile", old, "--audio", speech[0], "--repeat", "1"),
    ):
        ended = run(*command, script=script)
        assert ended.returncode == BundleError.exit_code
        assert "TorchScript can hold code" in ended.stderr
        assert "--export pytorch" in ended.stderr


def test_threads_are_the_bundle_s_own(directory: Path, batch: np.ndarray) -> None:
    import torch

    manifest = bundle.read_manifest(directory)
    before = torch.get_num_threads()
    counts = []
    for threads in (None, before + 1):
        backend = load(directory, manifest, "cpu", threads)
        encoder = backend.backend._model.model.encoder
        hook = encoder.register_forward_hook(lambda *_: counts.append(torch.get_num_threads()))
        backend.encode(batch)
        hook.remove()
        assert torch.get_num_threads() == before
    assert counts == [before, before + 1]
