"""A directory is made by one process at a time, and is the old one or the new one at any moment."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgewhisper import staging
from edgewhisper_runtime.errors import StorageError

REWRITE = """
import sys
from pathlib import Path
from edgewhisper import staging
target = Path(sys.argv[1])
print("ready", flush=True)
for n in range(1_000_000):
    with staging.new_directory(target) as directory:
        for name in "abc":
            (directory / name).write_text(str(n) * 1000)
"""
# Fails where another process is between the check and the end of the work.
COUNT = """
import sys, time
from pathlib import Path
from edgewhisper import staging
target = Path(sys.argv[1])
for _ in range(20):
    with staging.alone(target):
        count = int((target / "count").read_text()) if target.exists() else 0
        with staging.new_directory(target) as directory:
            time.sleep(0.001)
            (directory / "count").write_text(str(count + 1))
"""
HOLD = """
import logging, sys, time
from pathlib import Path
from edgewhisper import staging
logging.basicConfig(level=logging.INFO, format="%(message)s")
with staging.new_directory(Path(sys.argv[1])) as directory:
    (directory / "partial").touch()
    print("ready", flush=True)
    time.sleep(float(sys.argv[2]))
"""
UNSHARED = ("unshare", "--pid", "--fork", "--kill-child")


def start(program: str, *arguments: object, within: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*within, sys.executable, "-c", program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def await_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


@pytest.mark.parametrize("milliseconds", [1, 3, 7, 12, 20, 31, 45, 60])
def test_a_kill_at_any_moment_leaves_one_whole_directory(tmp_path: Path, milliseconds: int) -> None:
    target = tmp_path / "bundle"
    target.mkdir()
    for name in "abc":
        (target / name).write_text("old")
    writer = start(REWRITE, target)
    await_ready(writer)
    time.sleep(milliseconds / 1000)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    contents = {(target / name).read_text() for name in "abc"}
    assert len(contents) == 1
    assert {path.name for path in target.iterdir()} == set("abc")
    with staging.new_directory(target) as directory:
        (directory / "d").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"], "nothing abandoned is left"


def test_processes_take_turns(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    workers = [start(COUNT, target) for _ in range(4)]
    for worker in workers:
        _, stderr = worker.communicate(timeout=120)
        assert worker.returncode == 0, stderr
    assert (target / "count").read_text() == "80"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_who_waits_says_so(tmp_path: Path) -> None:
    holder = start(HOLD, tmp_path / "bundle", 1)
    await_ready(holder)
    waiting = start(HOLD, tmp_path / "bundle", 0)
    _, stderr = waiting.communicate(timeout=60)
    assert waiting.returncode == 0
    assert stderr == f"waiting for another process that makes {tmp_path / 'bundle'}\n"
    assert holder.wait() == 0


@pytest.mark.parametrize("inside", ["holder", "second"])
def test_a_process_number_says_nothing_across_containers(tmp_path: Path, inside: str) -> None:
    if subprocess.run([*UNSHARED, "true"], check=False, capture_output=True).returncode:
        message = "a PID namespace was not allowed; this test needs root"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    target = tmp_path / "bundle"
    holder = start(HOLD, target, 600, within=UNSHARED if inside == "holder" else ())
    await_ready(holder)
    second = start(HOLD, target, 0, within=UNSHARED if inside == "second" else ())
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(1)
    assert (tmp_path / ".bundle.new" / "partial").is_file(), "the work under way is left alone"
    holder.kill()
    _, stderr = second.communicate(timeout=60)
    assert second.returncode == 0, stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_failing_block_keeps_the_old_directory(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    with staging.new_directory(target) as directory:
        (directory / "a").write_text("old")

    def fail() -> None:
        with staging.new_directory(target) as directory:
            (directory / "a").write_text("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (target / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_what_a_kill_between_two_renames_set_aside_comes_back(tmp_path: Path) -> None:
    (tmp_path / ".bundle.old").mkdir()
    (tmp_path / ".bundle.old" / "a").write_text("old")
    with pytest.raises(RuntimeError), staging.new_directory(tmp_path / "bundle"):
        raise RuntimeError
    assert (tmp_path / "bundle" / "a").read_text() == "old"


def test_a_target_whose_name_begins_alike_is_left_alone(tmp_path: Path) -> None:
    with staging.new_directory(tmp_path / "model-1.new") as directory:
        with staging.new_directory(tmp_path / "model-1"):
            pass
        assert directory.is_dir()


def test_what_is_in_directories_below_stays_readable(tmp_path: Path) -> None:
    with staging.new_directory(tmp_path / "target") as directory:
        (directory / "below").mkdir()
        (directory / "below" / "file").touch()
    assert (tmp_path / "target" / "below").stat().st_mode & 0o111


def test_a_full_disk_keeps_what_was_there(small_disk: Callable[[str], Path]) -> None:
    full_disk = small_disk("256k")
    target = full_disk / "bundle"
    with staging.new_directory(target) as directory:
        (directory / "a").write_text("old")

    def overflow() -> None:
        with staging.new_directory(target) as directory:
            (directory / "a").write_bytes(bytes(10**6))

    with pytest.raises(StorageError, match="no space left"):
        overflow()
    assert (target / "a").read_text() == "old"
    assert [path.name for path in full_disk.iterdir()] == ["bundle"]


def test_a_place_that_may_not_be_written(small_disk: Callable[[str], Path]) -> None:
    disk = small_disk("256k")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(StorageError, match="may not be written"), staging.alone(disk / "bundle"):
        pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_locks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with (
        pytest.raises(StorageError, match="its file system has no locks"),
        staging.new_directory(tmp_path / "bundle"),
    ):
        pass
    assert not (tmp_path / "bundle").exists()
