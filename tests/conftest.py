"""Shared fixtures: real weights, real speech, and a home directory of the tests' own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgewhisper import checkpoints
from edgewhisper.checkpoints import Checkpoint
from edgewhisper.recipes import find_recipe
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.measure.profile import SPEECH

REPOSITORY = Path(__file__).parent.parent
DATA = Path(os.environ.get("EDGEWHISPER_TEST_DATA", REPOSITORY.parent / "shared" / "data"))

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty EDGEWHISPER_HOME, so that no test sees or touches the user's."""
    directory = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEWHISPER_HOME", str(directory))
        patch.delenv("EDGEWHISPER_LIBRISPEECH", raising=False)
        patch.delenv("EDGEWHISPER_BUNDLE", raising=False)
        yield directory


@pytest.fixture(scope="session")
def workspace(home: Path) -> Workspace:
    """The workspace of that directory."""
    return Workspace(home)


@pytest.fixture(scope="session")
def data() -> Path:
    """The directory of real speech; its absence fails in CI and skips elsewhere."""
    if not DATA.is_dir():
        message = f"{DATA} is absent: tests on real speech need it (EDGEWHISPER_TEST_DATA)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return DATA


@pytest.fixture(scope="session")
def speech(data: Path) -> list[Path]:
    """Five test-other utterances of five speakers, the same ones every time."""
    speakers = sorted((data / "LibriSpeech" / "test-other").iterdir())
    return [min(speaker.glob("*/*.flac")) for speaker in speakers[:5]]


@pytest.fixture(scope="session")
def smoke_clip() -> Path:
    """One clip of the synthetic smoke set."""
    return SPEECH / "smoke" / "slt" / "1" / "slt-1-0001.opus"


@pytest.fixture(scope="session")
def tiny_en(workspace: Workspace) -> Checkpoint:
    """The whisper-tiny.en checkpoint, from its package."""
    return checkpoints.resolve(workspace, "whisper-tiny.en")


@pytest.fixture(scope="session")
def base(workspace: Workspace) -> Checkpoint:
    """The whisper-base checkpoint, from its packages."""
    return checkpoints.resolve(workspace, "whisper-base")


@pytest.fixture(scope="session")
def tiny_bundle(workspace: Workspace, tiny_en: Checkpoint) -> Path:
    """whisper-tiny.en, quantized by quanto-int8 and staged as an unevaluated bundle."""
    from edgewhisper.pipeline import stage

    return stage(workspace, tiny_en, find_recipe("quanto-int8")).path


@pytest.fixture(scope="session")
def onnx_bundle(workspace: Workspace, tiny_en: Checkpoint) -> Path:
    """whisper-tiny.en by onnx-int8, exported and staged: what opens and runs quickest."""
    from edgewhisper.pipeline import stage_export

    return stage_export(workspace, tiny_en, find_recipe("onnx-int8")).path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a file system of a size such as "256k"; that takes root, which CI has."""
    mounted = tmp_path / "small"
    mounted.mkdir()

    def mount(size: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(mounted)]
        if os.geteuid() != 0 or subprocess.run(command, check=False).returncode:
            message = "mounting a small tmpfs was not allowed; this test needs root"
            if os.environ.get("CI"):
                pytest.fail(message)
            pytest.skip(message)
        return mounted

    yield mount
    subprocess.run(["umount", str(mounted)], check=False)


@pytest.fixture(scope="session")
def run(home: Path) -> Run:
    """Run a console script in this process, where what is imported stays so.

    Returns its exit code, stdout and stderr.
    """

    def call(
        *arguments: object,
        env_home: Path = home,
        script: str = "edgewhisper",
        stdin: Path = Path(os.devnull),
    ) -> subprocess.CompletedProcess[str]:
        (entry,) = entry_points(group="console_scripts", name=script)
        command = [script, *map(str, arguments)]
        with (
            stdin.open("rb") as file,
            pytest.MonkeyPatch.context() as patch,
            CliRunner().isolation(file) as (stdout, stderr, *_),
        ):
            patch.setattr(sys, "argv", command)
            patch.setenv("EDGEWHISPER_HOME", str(env_home))
            with pytest.raises(SystemExit) as ended:
                entry.load()()
            sys.stdout.flush()
            sys.stderr.flush()
            said = (stream.getvalue().decode() for stream in (stdout, stderr))
            return subprocess.CompletedProcess(command, ended.value.code, *said)

    return call


@pytest.fixture(scope="session")
def run_afresh(home: Path) -> Run:
    """Do the same in a process of its own, for what a process is the point of."""

    def call(
        *arguments: object, env_home: Path = home, script: str = "edgewhisper"
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(Path(sys.executable).parent / script), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            env=os.environ | {"EDGEWHISPER_HOME": str(env_home)},
        )

    return call
