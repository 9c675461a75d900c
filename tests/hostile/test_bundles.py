"""Whatever is wrong with a bundle, it is refused with an error of its own, or it runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import Run
from hostile import bundle_trials


def test_corrupted_bundles_are_refused_or_run(onnx_bundle: Path) -> None:
    """A part of the corpus."""
    tried = list(bundle_trials.trials(onnx_bundle, every=23))
    assert len(tried) >= 40
    assert [trial for trial in tried if trial.bad] == []


HOSTILE = "\x1b[31m\r\n\u202ex"


@pytest.mark.parametrize("command", ["info", "verify", "profile"])
@pytest.mark.parametrize(
    "place",
    [("recipe", "summary"), ("model", "name"), ("backend",), (HOSTILE,), ("files", HOSTILE)],
)
def test_nothing_a_terminal_obeys_is_printed(
    onnx_bundle: Path, tmp_path: Path, run: Run, command: str, place: tuple[str, ...]
) -> None:
    content = json.loads((onnx_bundle / "manifest.json").read_text())
    parent = content if len(place) == 1 else content[place[0]]
    parent[place[-1]] = HOSTILE
    directory = tmp_path / "bundle"
    directory.mkdir()
    (directory / "manifest.json").write_text(json.dumps(content))
    result = run(command, directory, script="edgewhisper-runtime")
    printed = result.stdout + result.stderr
    assert all(line.isprintable() for line in printed.split("\n"))
    harmless = place == (HOSTILE,) and command == "info"  # a key that is not known is ignored
    assert result.returncode == (0 if harmless else 6)


@pytest.mark.parametrize("place", ["name", "recipe", "manifest"])
def test_inspect_prints_nothing_a_terminal_obeys(
    onnx_bundle: Path, tmp_path: Path, run: Run, place: str
) -> None:
    content = json.loads((onnx_bundle / "manifest.json").read_text())
    if place == "recipe":
        content["recipe"]["summary"] = HOSTILE
    elif place == "manifest":
        content[HOSTILE] = HOSTILE
    directory = tmp_path / (HOSTILE if place == "name" else "bundle")
    directory.mkdir()
    (directory / "manifest.json").write_text(json.dumps(content))
    result = run("inspect", directory)
    printed = result.stdout + result.stderr
    assert all(line.isprintable() for line in printed.split("\n"))
    assert result.returncode not in {0, 70}


def test_names_of_files_are_printed_safely(tmp_path: Path, run: Run) -> None:
    directory = tmp_path / HOSTILE
    directory.mkdir()
    for path in (directory, tmp_path / f"{HOSTILE}.wav"):
        for command in (["info", path], ["transcribe", path, "--bundle", path], [path]):
            result = run(*command, script="edgewhisper-runtime")
            assert result.returncode not in {0, 70}
            assert all(line.isprintable() for line in result.stderr.split("\n")), command
