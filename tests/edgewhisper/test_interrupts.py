"""SIGINT to a command's own process alone ends it, and every process that it started."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from edgewhisper.checkpoints import Checkpoint
from edgewhisper.workspace import Workspace

SCRIPTS = Path(sys.executable).parent
PATIENCE = 60  # seconds, on a machine that does other work too


@contextmanager
def started(
    command: list[str], home: Path, program: str = "edgewhisper"
) -> Iterator[subprocess.Popen[str]]:
    """Start a command as a script's background job: in a group of its own, SIGINT ignored.

    It tells on stderr what it imports.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited by what is started
    try:
        process = subprocess.Popen(
            [sys.executable, "-X", "importtime", SCRIPTS / program, *command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | {"EDGEWHISPER_HOME": str(home)},
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        try:
            yield process
        finally:
            process.kill()


def interrupt(process: subprocess.Popen[str], message: str) -> str:
    """Send SIGINT once a message is on stderr; return what stands there after it."""
    assert process.stderr is not None
    watchdog = threading.Timer(300, process.kill)
    watchdog.start()
    for line in process.stderr:
        if message in line:
            break
    else:
        pytest.fail(f"it ended without {message!r}")
    watchdog.cancel()
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=PATIENCE)
    _, alive = psutil.wait_procs(children, timeout=PATIENCE)
    assert not alive
    return rest


@pytest.mark.parametrize("program", ["edgewhisper", "edgewhisper-runtime"])
def test_a_command_line_that_is_still_imported_ends(home: Path, program: str) -> None:
    with started(["doctor"], home, program) as process:
        rest = interrupt(process, "click.core")
    assert process.returncode == 130
    assert "Traceback" not in rest


@pytest.mark.parametrize(
    "message", ["recipes to do", "recipe 1 of 1", "speed, round 1 of 9"],
    ids=["in the baseline", "in a worker", "in a timed process"],
)  # fmt: skip
def test_a_sweep_ends(tiny_en: Checkpoint, home: Path, tmp_path: Path, message: str) -> None:
    command = ["sweep", "--model=whisper-tiny.en", "--recipe=onnx-int8", "--rounds=9"]
    command += ["--limit=12", "--output", str(tmp_path)]
    with started(command, home) as process:
        rest = interrupt(process, message)
    assert process.returncode == 130
    assert "interrupted; what was finished is kept." in rest
    assert "Traceback" not in rest


def test_a_profile_ends(onnx_bundle: Path, smoke_clip: Path, home: Path) -> None:
    command = ["profile", str(onnx_bundle), "--audio", str(smoke_clip), "--repeat=50"]
    with started(command, home) as process:
        rest = interrupt(process, "profile: 1 of 50")
    assert process.returncode == 130
    assert "Traceback" not in rest


def test_the_latest_bundle_moves_with_its_home(onnx_bundle: Path, tmp_path: Path) -> None:
    first, second, apart = (tmp_path / name for name in ("first", "second", "apart"))
    shutil.copytree(onnx_bundle, first / "bundles" / "x")
    Workspace(first).remember_bundle(first / "bundles" / "x")
    assert (first / "latest-bundle").read_text() == "bundles/x"
    shutil.copytree(first, second)
    assert Workspace(second).latest_bundle() == second / "bundles" / "x"
    # as earlier versions wrote it, and then copied
    (second / "latest-bundle").write_text(str(first / "bundles" / "x"))
    assert Workspace(second).latest_bundle() is None
    assert Workspace(first).latest_bundle() == first / "bundles" / "x"
    shutil.copytree(onnx_bundle, apart)
    Workspace(second).remember_bundle(apart)
    assert Workspace(second).latest_bundle() == apart
