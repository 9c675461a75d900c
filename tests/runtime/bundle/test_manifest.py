"""A bundle is exactly what its manifest lists, or it is refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from edgewhisper_runtime import bundle
from edgewhisper_runtime.errors import BundleError


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def edit(directory: Path, **changes: object) -> None:
    path = directory / bundle.MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_bundle_verifies_and_survives_a_round_trip(copy: Path) -> None:
    manifest = bundle.verify(copy)
    bundle.write_manifest(copy, manifest)
    assert bundle.verify(copy) == manifest
    assert manifest.weight_bytes == (copy / "weights.safetensors").stat().st_size
    assert manifest.settings.mels == 80
    assert 50257 in manifest.settings.suppress


@pytest.mark.parametrize(
    "name", ["weights.safetensors", "tokenizer.json", "config.json", "LICENSE"]
)
def test_one_flipped_byte(copy: Path, name: str) -> None:
    path = copy / name
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(BundleError, match=f"{name} was altered"):
        bundle.verify(copy)


def test_missing_truncated_and_unlisted_files(copy: Path) -> None:
    (copy / "extra.txt").write_text("hello")
    with pytest.raises(BundleError, match="does not list"):
        bundle.verify(copy)
    (copy / "extra.txt").unlink()
    (copy / "LICENSE").write_text("short")
    with pytest.raises(BundleError, match="bytes"):
        bundle.verify(copy)
    (copy / "LICENSE").unlink()
    with pytest.raises(BundleError, match="missing"):
        bundle.verify(copy)


def test_links_are_refused(copy: Path, tmp_path: Path) -> None:
    (copy / "LICENSE").rename(tmp_path / "LICENSE")
    (copy / "LICENSE").symlink_to(tmp_path / "LICENSE")
    with pytest.raises(BundleError, match="link"):
        bundle.verify(copy)


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/hostname", "sub/file", "a\\b", "", ".hidden", "manifest.json"]
)
def test_names_that_leave_the_directory(copy: Path, name: str) -> None:
    files = json.loads((copy / bundle.MANIFEST).read_text())["files"]
    edit(copy, files=files | {name: {"bytes": 1, "sha256": "0" * 64}})
    with pytest.raises(BundleError, match=r"malformed: a key of files is .*; it must"):
        bundle.verify(copy)


@pytest.mark.parametrize(
    "content",
    ["", "null", "[]", "{}", '{"schema": "1.0"}', "[" * 100_000, '{"schema": 1.0, "x": 1}'],
)
def test_malformed_manifests(copy: Path, content: str) -> None:
    (copy / bundle.MANIFEST).write_text(content)
    with pytest.raises(BundleError, match=r"malformed|schema"):
        bundle.read_manifest(copy)


def test_another_major_schema_is_refused_and_a_minor_one_read(copy: Path) -> None:
    edit(copy, schema="1.7")
    bundle.verify(copy)
    edit(copy, schema="2.0")
    with pytest.raises(BundleError, match=r"schema 2\.0"):
        bundle.verify(copy)


@pytest.mark.parametrize("name", ["../outside", "a/b", "", "/abs"])
def test_a_bundle_name_is_no_path(copy: Path, name: str) -> None:
    edit(copy, name=name)
    with pytest.raises(BundleError, match=r"malformed: name is .*; it must be a plain name"):
        bundle.verify(copy)


@pytest.mark.parametrize("change", [{"model": {}}, {"recipe": {}}, {"model": 3}, {"recipe": None}])
def test_a_manifest_that_lacks_provenance(copy: Path, change: dict) -> None:
    edit(copy, **change)
    with pytest.raises(BundleError, match="malformed"):
        bundle.verify(copy)


def test_a_directory_without_manifest(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a bundle"):
        bundle.verify(tmp_path)


def change(directory: Path, path: str, value: object) -> None:
    content = json.loads((directory / bundle.MANIFEST).read_text())
    *parents, last = path.split("/")
    part = content
    for key in parents:
        part = part[key]
    part[last] = value
    (directory / bundle.MANIFEST).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("settings/mels", 200_000, "settings.mels is 200000; it must be from 1 to 256"),
        ("settings/mels", True, "settings.mels is True; it must be a whole number"),
        ("settings/mels", 80.0, "settings.mels is 80.0; it must be a whole number"),
        ("settings/max_tokens", 2**31, "settings.max_tokens is 2147483648"),
        ("settings/suppress", [2**31], "settings.suppress is 2147483648; it must be from 0"),
        ("settings/suppress", "1", "settings.suppress must be a list"),
        ("settings/alignment_heads", [[1]], "settings.alignment_heads must be a list of 2"),
        ("settings/adaptive", {"margin": 99}, "settings.adaptive.margin is 99; it must be from 0"),
        ("files/LICENSE/bytes", -1, "files.LICENSE.bytes is -1; it must be from 0"),
        ("files/LICENSE/sha256", "A" * 64, "files.LICENSE.sha256 is .* must be a SHA-256"),
        ("created", "yesterday", "created is 'yesterday'; it must be a date"),
        ("model/source", {"x": "\x1b[31m"}, "model.source.x is .*control character"),
        ("recipe/summary", "a\x1b[31m", r"recipe.summary is 'a\\x1b\[31m'"),
        ("recipe/activations", 3, "recipe.activations must be a table"),
        ("libraries/torch", 2, "libraries.torch is 2; it must be a text"),
        ("census", [{}], "the key census.part is missing"),
        ("audio_context", "half", "audio_context is 'half'; use one of full, adaptive"),
        ("evaluation", {"verdict": "good"}, "evaluation.verdict is 'good'; use one of passed"),
    ],
)
def test_a_malformed_manifest_is_told_its_key(
    copy: Path, path: str, value: object, message: str
) -> None:
    change(copy, path, value)
    with pytest.raises(BundleError, match=f"malformed: {message}") as caught:
        bundle.read_manifest(copy)
    assert str(caught.value).isprintable()


def test_a_manifest_of_the_first_release_is_read(copy: Path) -> None:
    manifest = bundle.read_manifest(copy)
    content = json.loads((copy / bundle.MANIFEST).read_text()) | {"schema": "1.0"}
    del content["settings"]["adaptive"]
    (copy / bundle.MANIFEST).write_text(json.dumps(content))
    assert bundle.read_manifest(copy) == manifest
    assert manifest.settings.adaptive == bundle.Adaptive(2.0, None)


def test_a_manifest_that_is_no_file_is_refused(copy: Path, tmp_path: Path) -> None:
    path = copy / bundle.MANIFEST
    path.rename(tmp_path / "elsewhere.json")
    path.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(BundleError, match="link or special file"):
        bundle.read_manifest(copy)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(BundleError, match="link or special file"):
        bundle.read_manifest(copy)
    path.unlink()
    path.write_bytes(b" " * 2**23)
    with pytest.raises(BundleError, match="more than"):
        bundle.read_manifest(copy)
