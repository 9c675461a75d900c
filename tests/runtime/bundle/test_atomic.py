"""Whatever interrupts a write, the old file or the new one is there, never a mixture."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edgewhisper_runtime.bundle import atomic
from edgewhisper_runtime.errors import StorageError


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    atomic.write_text(path, "text")
    assert path.read_text() == "text"


def test_text_is_replaced_whole(tmp_path: Path) -> None:
    atomic.write_text(tmp_path / "deep" / "file", "one")
    atomic.write_text(tmp_path / "deep" / "file", "two")
    assert (tmp_path / "deep" / "file").read_text() == "two"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["file"]


def test_a_file_is_as_private_as_its_owner_has_it(tmp_path: Path) -> None:
    for umask, mode in ((0o022, 0o644), (0o077, 0o600)):
        before = os.umask(umask)
        try:
            atomic.write_text(tmp_path / "file", "private")
        finally:
            os.umask(before)
        assert (tmp_path / "file").stat().st_mode & 0o777 == mode


def test_a_full_disk_keeps_what_was_there(small_disk: Callable[[str], Path]) -> None:
    path = small_disk("256k") / "file"
    atomic.write_text(path, "old")
    with pytest.raises(StorageError, match="no space left"):
        atomic.write_text(path, "x" * 10**6)
    assert path.read_text() == "old"
    assert [path.name for path in path.parent.iterdir()] == ["file"]
