"""Whatever interrupts a write, the old content or the new one is there, never a mixture."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgewhisper_runtime.bundle import atomic
from edgewhisper_runtime.errors import StorageError

WRITER = """
import sys
from pathlib import Path
from edgewhisper_runtime.bundle import atomic
target = Path(sys.argv[1])
print("ready", flush=True)
for n in range(1_000_000):
    with atomic.new_directory(target) as staging:
        for name in "abc":
            (staging / name).write_text(str(n) * 1000)
"""


@pytest.mark.parametrize("milliseconds", [1, 3, 7, 12, 20, 31, 45, 60])
def test_a_kill_at_any_moment_leaves_one_whole_directory(tmp_path: Path, milliseconds: int) -> None:
    target = tmp_path / "bundle"
    target.mkdir()
    for name in "abc":
        (target / name).write_text("old")
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(target)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    writer.stdout.readline()
    time.sleep(milliseconds / 1000)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    contents = {(target / name).read_text() for name in "abc"}
    assert len(contents) == 1
    assert {path.name for path in target.iterdir()} == set("abc")
    with atomic.new_directory(target) as staging:
        (staging / "d").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"], "nothing abandoned is left"


def test_a_failing_block_keeps_the_old_directory(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    with atomic.new_directory(target) as staging:
        (staging / "a").write_text("old")

    def fail() -> None:
        with atomic.new_directory(target) as staging:
            (staging / "a").write_text("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (target / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_target_whose_name_begins_alike_is_left_alone(tmp_path: Path) -> None:
    dead = 2**22 + 1  # above any process number
    with atomic.new_directory(tmp_path / f"model-1.{dead}") as staging:
        with atomic.new_directory(tmp_path / "model-1"):
            pass
        assert staging.is_dir()


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    atomic.write_text(path, "text")
    assert path.read_text() == "text"


def test_what_is_in_directories_below_stays_readable(tmp_path: Path) -> None:
    with atomic.new_directory(tmp_path / "target") as staging:
        (staging / "below").mkdir()
        (staging / "below" / "file").touch()
    assert (tmp_path / "target" / "below").stat().st_mode & 0o111


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
    full_disk = small_disk("256k")
    target = full_disk / "bundle"
    with atomic.new_directory(target) as staging:
        (staging / "a").write_text("old")

    def overflow() -> None:
        with atomic.new_directory(target) as staging:
            (staging / "a").write_bytes(bytes(10**6))

    with pytest.raises(StorageError, match="no space left"):
        overflow()
    assert (target / "a").read_text() == "old"
    assert [path.name for path in full_disk.iterdir()] == ["bundle"]
    with pytest.raises(StorageError):
        atomic.write_text(target / "a", "x" * 10**6)
    assert (target / "a").read_text() == "old"
