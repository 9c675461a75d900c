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
