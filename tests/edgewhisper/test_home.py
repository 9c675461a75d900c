"""Where things are kept, also for a container's user who has no home directory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import REPOSITORY

Command = Callable[..., "subprocess.CompletedProcess[str]"]

NOBODY = 54_321  # in no /etc/passwd
MAIN = "import sys; sys.argv[0] = 'edgewhisper'; from edgewhisper.cli import main; main()"


@pytest.fixture(scope="module")
def homeless() -> Iterator[Command]:
    """Run the installed package, not the checkout, as a user without HOME or an account."""
    if os.geteuid() != 0:
        message = "running as another user was not allowed; this test needs root"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with tempfile.TemporaryDirectory() as name:
        site = Path(name)
        shutil.copytree(REPOSITORY / "edgewhisper", site / "edgewhisper")
        shutil.copytree(REPOSITORY / "models", site / "edgewhisper" / "models")
        site.chmod(0o755)

        def command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-c", MAIN, *map(str, arguments)],
                env={"PATH": os.environ["PATH"], "PYTHONPATH": name, **environment},
                user=NOBODY,
                group=NOBODY,
                extra_groups=(),
                cwd="/",
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )

        yield command


@pytest.fixture
def bundle(onnx_bundle: Path) -> Iterator[Path]:
    """The bundle where another user may read it."""
    with tempfile.TemporaryDirectory() as name:
        shutil.copytree(onnx_bundle, name, dirs_exist_ok=True)
        Path(name).chmod(0o755)
        yield Path(name)


def test_what_needs_no_home_has_none(homeless: Command, bundle: Path, smoke_clip: Path) -> None:
    for arguments in (["--help"], ["recipes"], ["verify", bundle]):
        result = homeless(*arguments)
        assert result.returncode == 0, result.stderr
    result = homeless("transcribe", "--bundle", bundle, smoke_clip)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("There is")


@pytest.mark.parametrize("arguments", [["fetch", "tiny.en"], ["transcribe", "x.wav"]])
def test_what_needs_one_says_how_to_name_it(homeless: Command, arguments: list[str]) -> None:
    result = homeless(*arguments)
    assert result.returncode == 12
    assert "EDGEWHISPER_HOME" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_home_that_is_named_will_do(homeless: Command) -> None:
    with tempfile.TemporaryDirectory() as name:
        os.chown(name, NOBODY, NOBODY)
        result = homeless("fetch", "tiny.en", EDGEWHISPER_HOME=name)
        assert result.returncode == 0, result.stderr
        assert Path(result.stdout.strip()).is_relative_to(name)
