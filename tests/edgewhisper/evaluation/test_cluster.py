"""An evaluation on a real Ray cluster of two workers: the same texts, nothing lost to a kill."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from edgewhisper.evaluation import datasets
from edgewhisper.evaluation.options import EvaluationOptions
from edgewhisper.evaluation.run import evaluate
from edgewhisper.evaluation.wer import Record
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.bundle import Artefact, read_manifest
from edgewhisper_runtime.engines.onnx import ENCODER
from edgewhisper_runtime.errors import BundleError, EdgeWhisperError

SMOKE = datasets.find_dataset(Workspace(Path("nowhere")))
OPTIONS = EvaluationOptions(SMOKE, threads=1)
ON_RAY = replace(OPTIONS, engine="ray")


@pytest.fixture(scope="module")
def two_workers() -> Iterator[None]:
    import ray

    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    yield
    ray.shutdown()


@pytest.fixture
def fresh(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture
def artefact(onnx_bundle: Path) -> Artefact:
    return Artefact.verified(onnx_bundle)


def texts(records: dict[str, list[Record]]) -> list[Record]:
    return [replace(record, seconds=0.0) for record in records["smoke"]]


def workers() -> list[psutil.Process]:
    """The processes that a batch is being worked on in."""
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if any("ray::_work" in part for part in process.cmdline()[:1])
    ]


def test_the_same_result_and_a_killed_worker_loses_nothing(
    two_workers: None, artefact: Artefact, fresh: Workspace, tmp_path: Path
) -> None:
    killed: list[int] = []
    over = threading.Event()

    def kill_one() -> None:
        while not over.is_set() and not killed:
            for process in workers()[:1]:
                time.sleep(0.3)  # into its work
                process.send_signal(signal.SIGKILL)
                killed.append(process.pid)
            time.sleep(0.02)

    killer = threading.Thread(target=kill_one)
    killer.start()
    found = evaluate(fresh, artefact, ON_RAY)
    over.set()
    killer.join()
    assert killed

    lines = next(fresh.evaluations.rglob("*.jsonl")).read_text().splitlines()
    assert len(lines) == len(found["smoke"]) == 24
    # nothing is left to do for another engine
    assert evaluate(fresh, artefact, OPTIONS) == found
    assert texts(evaluate(Workspace(tmp_path / "local"), artefact, OPTIONS)) == texts(found)


def test_what_is_enough_is_enough_at_the_same_place(
    two_workers: None, artefact: Artefact, fresh: Workspace, tmp_path: Path
) -> None:
    def after_one_batch(_split: str, records: list[Record]) -> bool:
        return bool(records)

    on_ray = evaluate(fresh, artefact, ON_RAY, after_one_batch)
    assert texts(
        evaluate(Workspace(tmp_path / "local"), artefact, OPTIONS, after_one_batch)
    ) == texts(on_ray)
    assert 0 < len(on_ray["smoke"]) < 24


def test_what_no_machine_has_is_said_at_once(
    two_workers: None, artefact: Artefact, fresh: Workspace
) -> None:
    for options in (replace(ON_RAY, threads=64), replace(ON_RAY, device="cuda")):
        with pytest.raises(EdgeWhisperError, match="no machine of the Ray cluster has"):
            evaluate(fresh, artefact, options)


def test_an_error_on_a_worker_is_ours(two_workers: None, onnx_bundle: Path, tmp_path: Path) -> None:
    from edgewhisper.evaluation.cluster import transcribe

    for path in onnx_bundle.iterdir():
        os.link(path, tmp_path / path.name)
    (tmp_path / ENCODER).unlink()
    (tmp_path / ENCODER).write_bytes(b"damaged")
    batch = datasets.utterances(OPTIONS.dataset, "smoke", 1)
    with pytest.raises(BundleError, match=rf"^\S*{ENCODER}"):
        list(transcribe(Artefact(tmp_path, read_manifest(tmp_path)), ON_RAY, [batch]))
