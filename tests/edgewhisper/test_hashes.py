"""What was hashed is not hashed again until it changes, and `verify` always hashes."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from edgewhisper.workspace import Workspace
from edgewhisper_runtime import bundle
from edgewhisper_runtime.errors import BundleError


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are hashed, in order."""
    names: list[str] = []
    plain = hashlib.file_digest

    def counted(file, digest):
        names.append(Path(file.name).name)
        return plain(file, digest)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    return names


def test_an_open_bundle_is_hashed_once(
    onnx_bundle: Path, tmp_path: Path, hashed: list[str]
) -> None:
    copy = Path(shutil.copytree(onnx_bundle, tmp_path / "copy"))
    first = Workspace(tmp_path / "home").open(copy)
    assert sorted(hashed) == sorted(first.manifest.files)
    hashed.clear()
    assert Workspace(tmp_path / "home").open(copy) == first  # as in another process
    assert hashed == []
    assert bundle.verify(copy) == first.manifest
    assert sorted(hashed) == sorted(first.manifest.files)


def test_a_changed_file_is_seen(onnx_bundle: Path, tmp_path: Path, hashed: list[str]) -> None:
    copy = Path(shutil.copytree(onnx_bundle, tmp_path / "copy"))
    workspace = Workspace(tmp_path / "home")
    workspace.open(copy)
    hashed.clear()
    os.utime(copy / "LICENSE")
    workspace.open(copy)
    assert hashed == ["LICENSE"]
    with (copy / "decoder.onnx").open("r+b") as file:
        file.write(b"\xff")
    with pytest.raises(BundleError, match=r"decoder\.onnx was altered"):
        workspace.open(copy)


def test_a_damaged_cache_is_no_harm(onnx_bundle: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    (tmp_path / "hashes.txt").write_text("garbage\n" + 64 * "0" + "\n")
    assert workspace.open(onnx_bundle).manifest == bundle.read_manifest(onnx_bundle)


def test_several_files_have_the_digest_of_their_contents(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(name)
    digest = Workspace(tmp_path).hashes.digest([tmp_path / "a", tmp_path / "b"])
    assert digest == hashlib.sha256(b"ab").hexdigest()
