"""What is kept, and deleting it: never a bundle, a report, or what a process works on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import Run
from edgewhisper import cache, staging
from edgewhisper.workspace import Workspace

HOLD = """
import sys
from pathlib import Path
from edgewhisper.staging import new_directory
with new_directory(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
FILES = (
    "checkpoints/tiny/model.safetensors",
    "variants/tiny-onnx-int8/model.safetensors",
    "exports/onnx/tiny-onnx-int8/encoder.onnx",
    "exports/onnx/.tiny-onnx-int4.new/encoder.onnx",
    "evaluations/tiny-0123/smoke.jsonl",
    "downloads/part",
    "bundles/tiny-onnx-int8/encoder.onnx",
    "bundles/.tiny-onnx-int4.new/encoder.onnx",
    "bundles/.tiny-onnx-int4.lock",
    "reports/tiny.json",
    "sweeps/tiny/results.json",
    "latest-bundle",
)


@pytest.fixture
def kept(tmp_path: Path, host: None) -> Workspace:
    """A workspace with something of everything, each of 1000 bytes."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(1000))
    return Workspace(tmp_path)


def left(workspace: Workspace) -> set[str]:
    files = (path for path in workspace.root.rglob("*") if path.is_file())
    return {path.relative_to(workspace.root).as_posix() for path in files}


def test_all_that_may_be_deleted_is_shown(kept: Workspace, run: Run) -> None:
    shown = run("cache", "--json", env_home=kept.root)
    rows = [(row["kind"], row["bytes"]) for row in json.loads(shown.stdout)]
    kinds = ["checkpoint", "variant", "export", "evaluation", "download", *["leftover"] * 3]
    assert rows == [(kind, 1000) for kind in kinds]
    table = run("cache", env_home=kept.root).stdout
    assert "exports/onnx/tiny-onnx-int8" in table
    assert "0.0 MB in all" in table


def test_pruning_deletes_what_can_be_made_again(kept: Workspace, run: Run) -> None:
    before = left(kept)
    trial = run("cache", "prune", "--dry-run", env_home=kept.root)
    assert "would be deleted" in trial.stdout
    assert left(kept) == before
    done = run("cache", "prune", env_home=kept.root)
    assert done.returncode == 0, done.stderr
    stays = ("checkpoints", "evaluations", "bundles/tiny", "reports", "sweeps", "latest")
    assert left(kept) == {name for name in FILES if name.startswith(stays)}


def test_kinds_and_ages_are_chosen(kept: Workspace) -> None:
    old = kept.checkpoints / "tiny" / "model.safetensors"
    os.utime(old, (time.time() - 40 * 24 * 3600,) * 2)
    pruned = [entry.path for entry, done in cache.prune(kept, cache.KINDS, 30) if done]
    assert pruned == [old.parent]
    assert not old.exists()
    assert left(kept) == set(FILES) - {"checkpoints/tiny/model.safetensors"}


def test_what_a_process_works_on_is_left(kept: Workspace) -> None:
    target = kept.variants / "tiny-onnx-int8"
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(target)], stdin=pipe, stdout=pipe, text=True
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        outcomes = {e.path.name: done for e, done in cache.prune(kept, ("variant", "leftover"))}
        assert not outcomes[target.name]
        assert not outcomes[f".{target.name}.new"]
        assert (target / "model.safetensors").exists()
        assert not (kept.bundles / ".tiny-onnx-int4.new").exists()
        holder.communicate()
    assert staging.remove(target)
    assert not target.exists()


def test_the_doctor_tells_what_may_be_deleted(kept: Workspace, run: Run) -> None:
    shown = run("doctor", "--json", env_home=kept.root)
    findings = {row["name"]: row for row in json.loads(shown.stdout)}
    assert "cache prune" in findings["cache"]["note"]
    assert {"processor", "GPU", "torch", "recipes of onnx"} & findings.keys()
    assert shown.returncode == any(row["problem"] for row in findings.values())
