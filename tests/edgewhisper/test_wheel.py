"""The runtime's wheel in a bundle: what pip installs is what runs here, and nothing of the host."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import edgewhisper_runtime
from edgewhisper import wheel

ALONE = """
import sys
sys.path.insert(0, sys.argv[1])
import edgewhisper_runtime
from importlib.metadata import distribution
assert edgewhisper_runtime.__file__.startswith(sys.argv[1])
print(*(e.name for e in distribution("edgewhisper-runtime").entry_points))
"""


def test_pip_installs_what_is_running_here(tmp_path: Path) -> None:
    packed = wheel.write_runtime_wheel(tmp_path)
    target = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", target, packed], check=True, capture_output=True)
    source = Path(edgewhisper_runtime.__file__).parent
    files = [p.relative_to(source) for p in source.rglob("*") if p.is_file() and p.suffix != ".pyc"]
    for file in files:
        assert (target / source.name / file).read_bytes() == (source / file).read_bytes()
    said = subprocess.run(
        [sys.executable, "-c", ALONE, target], capture_output=True, text=True, check=True
    )
    assert {"edgewhisper-runtime", "onnx", "pytorch"} == set(said.stdout.split())
    (metadata,) = target.glob("edgewhisper_runtime-*.dist-info/METADATA")
    assert "editables" not in metadata.read_text()


def test_the_same_runtime_gives_the_same_bytes(tmp_path: Path) -> None:
    """So that a bundle built again is the same bundle."""
    directories = [tmp_path / name for name in "ab"]
    for directory in directories:
        directory.mkdir()
    first, second = (wheel.write_runtime_wheel(directory) for directory in directories)
    assert first.read_bytes() == second.read_bytes()
