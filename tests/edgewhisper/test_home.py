"""Where things are kept, also for a container's user who has no home directory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import REPOSITORY

Command = Callable[..., "subprocess.CompletedProcess[str]"]

# A user of no account, as containers are run; files are seen with the tests' own rights.
AS_NOBODY = ("unshare", "--user", "--map-user=54321", "--map-group=54321")
MAIN = "import sys; sys.argv[0] = 'edgewhisper'; from edgewhisper.cli import main; main()"


@pytest.fixture(scope="module")
def homeless(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Run the package as a wheel installs it, for a user without HOME or an account."""
    if subprocess.run([*AS_NOBODY, "true"], check=False, capture_output=True).returncode:
        message = "a user namespace was not allowed"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    site = tmp_path_factory.mktemp("site")
    shutil.copytree(REPOSITORY / "edgewhisper", site / "edgewhisper")
    shutil.copytree(REPOSITORY / "models", site / "edgewhisper" / "models")

    def command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*AS_NOBODY, sys.executable, "-c", MAIN, *map(str, arguments)],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(site), **environment},
            cwd=site,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return command


def test_what_needs_no_home_has_none(
    homeless: Command, onnx_bundle: Path, smoke_clip: Path
) -> None:
    for arguments in (["--help"], ["recipes"], ["verify", onnx_bundle]):
        result = homeless(*arguments)
        assert result.returncode == 0, result.stderr
    result = homeless("transcribe", "--bundle", onnx_bundle, smoke_clip)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("There is")


@pytest.mark.parametrize("arguments", [["fetch", "tiny.en"], ["transcribe", "x.wav"]])
@pytest.mark.parametrize("environment", [{}, {"HOME": "/proc"}], ids=["none", "not writable"])
def test_what_needs_one_says_how_to_name_it(
    homeless: Command, arguments: list[str], environment: dict[str, str]
) -> None:
    result = homeless(*arguments, **environment)
    assert result.returncode == 12
    assert "EDGEWHISPER_HOME" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_home_that_is_named_will_do(homeless: Command, tmp_path: Path) -> None:
    result = homeless("fetch", "tiny.en", EDGEWHISPER_HOME=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip()).is_relative_to(tmp_path)
