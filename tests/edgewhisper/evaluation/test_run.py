"""Evaluation survives a kill at any moment: nothing lost, nothing done twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgewhisper.evaluation import librispeech
from edgewhisper.evaluation.options import EvaluationOptions
from edgewhisper.evaluation.run import evaluate
from edgewhisper.workspace import Workspace
from edgewhisper_runtime import audio
from edgewhisper_runtime.bundle import Artefact

PROGRAM = """
import sys
from pathlib import Path
from edgewhisper.evaluation import librispeech
from edgewhisper.evaluation.options import EvaluationOptions
from edgewhisper.evaluation.run import evaluate
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.bundle import Artefact
directory, root = map(Path, sys.argv[1:])
fresh = Workspace(root)
options = EvaluationOptions(librispeech.find(fresh), limit=16)
evaluate(fresh, Artefact.verified(directory), options)
"""


def results(fresh: Workspace) -> list[Path]:
    return list(fresh.evaluations.rglob("*.jsonl"))


@pytest.fixture
def fresh(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture
def artefact(onnx_bundle: Path) -> Artefact:
    return Artefact.verified(onnx_bundle)


def test_a_kill_loses_and_repeats_nothing(artefact: Artefact, fresh: Workspace) -> None:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(artefact.path), str(fresh.root)])
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not results(fresh):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (path,) = results(fresh)
    before = path.read_bytes()
    finished = before.count(b"\n")
    assert 0 < finished < 16
    with path.open("ab") as file:
        file.write(b'{"id": "slt-1-00')  # as if the kill had come in the middle of a line

    options = EvaluationOptions(librispeech.find(fresh), limit=16)
    found = evaluate(fresh, artefact, options)["smoke"]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert path.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    assert len(lines) == len({line["id"] for line in lines}) == 16
    wanted = librispeech.utterances(options.dataset, "smoke", 16)
    assert [record.id for record in found] == [utterance.id for utterance in wanted]

    content = path.read_bytes()
    assert evaluate(fresh, artefact, options)["smoke"] == found
    assert path.read_bytes() == content


def test_a_damaged_line_is_done_again(artefact: Artefact, fresh: Workspace) -> None:
    options = EvaluationOptions(librispeech.find(fresh), limit=2)
    first = evaluate(fresh, artefact, options)["smoke"]
    (path,) = results(fresh)
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\x00garbage\n" + lines[1] + b"\n")
    again = evaluate(fresh, artefact, options)["smoke"]
    assert [record.hypothesis for record in again] == [record.hypothesis for record in first]
    assert len(path.read_bytes().splitlines()) == 3


def test_other_audio_and_other_means_are_another_evaluation(
    artefact: Artefact, fresh: Workspace, smoke_clip: Path
) -> None:
    """An utterance of the same name, text and length is another one where it sounds otherwise."""
    directory = fresh.root / "speech" / "test-clean" / "1" / "2"
    directory.mkdir(parents=True)
    (directory / "1-2.trans.txt").write_text("1-2-0000 THERE IS FRESH BREAD ON THE TABLE\n\n")
    samples = audio.load(smoke_clip)

    def transcribed(samples: np.ndarray, threads: int) -> str:
        soundfile.write(directory / "1-2-0000.flac", samples, audio.SAMPLE_RATE)
        options = EvaluationOptions(librispeech.find(fresh, fresh.root / "speech"), threads=threads)
        (record,) = evaluate(fresh, artefact, options)["test-clean"]
        return record.hypothesis

    assert "table" in transcribed(samples, 2)
    assert "table" not in transcribed(samples[::-1], 2)
    assert len(results(fresh)) == 2
    assert "table" in transcribed(samples, 1)  # its time is not that of two threads
    assert len(results(fresh)) == 3
