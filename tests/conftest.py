"""Shared fixtures: real weights, real speech, and a home directory of the tests' own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import distributions, entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from edgewhisper_runtime.measure.profile import SPEECH

if TYPE_CHECKING:
    from edgewhisper.checkpoints import Checkpoint
    from edgewhisper.workspace import Workspace

REPOSITORY = Path(__file__).parent.parent
DATA = Path(os.environ.get("EDGEWHISPER_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
BUNDLES = os.environ.get("EDGEWHISPER_TEST_BUNDLES")
# By what is installed: the source of the host is there in any case.
HOST = any(distribution.name == "edgewhisper" for distribution in distributions())
PROGRAM = "edgewhisper" if HOST else "edgewhisper-runtime"
# The fixtures that make a test slow: all that decode, or read hours of audio, need one of them.
SLOW_FIXTURES = {"base", "bundle_of", "data", "tiny_en", "tokenizer_of"}

BundleOf = Callable[..., Path]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
TokenizerOf = Callable[[str], Path]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that choose among tests."""
    parser.addoption(
        "--fast", action="store_true", help="leave out tests that need weights or recorded speech"
    )
    parser.addoption(
        "--no-speech", action="store_true", help="skip tests of recorded speech, also in CI"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what `--fast` leaves out."""
    if config.getoption("--fast"):
        slow = [item for item in items if SLOW_FIXTURES & {*getattr(item, "fixturenames", ())}]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.fixture(scope="session")
def host() -> None:
    """Skips a test where the host toolkit and its libraries are not installed."""
    if not HOST:
        pytest.skip("needs the host toolkit")


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
def workspace(home: Path, host: None) -> Workspace:
    """The workspace of that directory."""
    from edgewhisper.workspace import Workspace

    return Workspace(home)


@pytest.fixture(scope="session")
def data(pytestconfig: pytest.Config) -> Path:
    """The directory of real speech; its absence fails in CI and skips elsewhere."""
    if not DATA.is_dir():
        message = f"{DATA} is absent: tests on real speech need it (EDGEWHISPER_TEST_DATA)"
        if os.environ.get("CI") and not pytestconfig.getoption("--no-speech"):
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
    from edgewhisper import checkpoints

    return checkpoints.resolve(workspace, "whisper-tiny.en")


@pytest.fixture(scope="session")
def base(workspace: Workspace) -> Checkpoint:
    """The whisper-base checkpoint, from its packages."""
    from edgewhisper import checkpoints

    return checkpoints.resolve(workspace, "whisper-base")


@pytest.fixture(scope="session")
def bundle_of(request: pytest.FixtureRequest) -> BundleOf:
    """Bundles that were not evaluated, by model, recipe and export ("none": the variant itself).

    From EDGEWHISPER_TEST_BUNDLES, where tests/bundles.py has put them; else made by the host.
    """
    from bundles import directory_of, make

    def find(model: str, recipe: str, export: str = "onnx") -> Path:
        if BUNDLES is None:
            return make(request.getfixturevalue("workspace"), model, recipe, export)
        directory = Path(BUNDLES) / directory_of(model, recipe, export)
        if not directory.is_dir():
            pytest.skip(f"{directory} is absent: tests/bundles.py makes it")
        return directory

    return find


@pytest.fixture(scope="session")
def tokenizer_of(request: pytest.FixtureRequest) -> TokenizerOf:
    """A model's tokenizer.json: of a bundle that is there already, else of its checkpoint."""

    def find(model: str) -> Path:
        if BUNDLES is not None:
            directory = request.getfixturevalue("bundle_of")(model, "onnx-int8")
        else:
            fixtures = {"whisper-tiny.en": "tiny_en", "whisper-base": "base"}
            directory = request.getfixturevalue(fixtures[model]).path
        return Path(directory) / "tokenizer.json"

    return find


@pytest.fixture(scope="session")
def tiny_bundle(bundle_of: BundleOf) -> Path:
    """whisper-tiny.en, quantized by quanto-int8, not exported."""
    return bundle_of("whisper-tiny.en", "quanto-int8", "none")


@pytest.fixture(scope="session")
def onnx_bundle(bundle_of: BundleOf) -> Path:
    """whisper-tiny.en by onnx-int8, exported: what opens and runs quickest."""
    return bundle_of("whisper-tiny.en", "onnx-int8")


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
        script: str = PROGRAM,
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
        *arguments: object, env_home: Path = home, script: str = PROGRAM
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
