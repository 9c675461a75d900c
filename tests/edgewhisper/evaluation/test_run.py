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
from edgewhisper.evaluation.run import Options, evaluate
from edgewhisper_runtime import audio

PROGRAM = """
import sys
from pathlib import Path
from edgewhisper.evaluation import librispeech
from edgewhisper.evaluation.run import Options, evaluate
evaluate(Path(sys.argv[1]), Options(librispeech.find(), limit=16))
"""


def results(home: Path) -> list[Path]:
    return list((home / "evaluations").rglob("*.jsonl"))


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEWHISPER_HOME", str(tmp_path))
    return tmp_path


def test_a_kill_loses_and_repeats_nothing(onnx_bundle: Path, own_home: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(onnx_bundle)])
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not results(own_home):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (path,) = results(own_home)
    before = path.read_bytes()
    finished = before.count(b"\n")
    assert 0 < finished < 16
    with path.open("ab") as file:
        file.write(b'{"id": "slt-1-00')  # as if the kill had come in the middle of a line

    options = Options(librispeech.find(), limit=16)
    found = evaluate(onnx_bundle, options)["smoke"]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert path.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    assert len(lines) == len({line["id"] for line in lines}) == 16
    wanted = librispeech.utterances(options.dataset, "smoke", 16)
    assert [record.id for record in found] == [utterance.id for utterance in wanted]

    content = path.read_bytes()
    assert evaluate(onnx_bundle, options)["smoke"] == found
    assert path.read_bytes() == content


def test_a_damaged_line_is_done_again(onnx_bundle: Path, own_home: Path) -> None:
    options = Options(librispeech.find(), limit=2)
    first = evaluate(onnx_bundle, options)["smoke"]
    (path,) = results(own_home)
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\x00garbage\n" + lines[1] + b"\n")
    again = evaluate(onnx_bundle, options)["smoke"]
    assert [record.hypothesis for record in again] == [record.hypothesis for record in first]
    assert len(path.read_bytes().splitlines()) == 3


def test_other_audio_and_other_means_are_another_evaluation(
    onnx_bundle: Path, own_home: Path, smoke_clip: Path
) -> None:
    """An utterance of the same name, text and length is another one where it sounds otherwise."""
    directory = own_home / "speech" / "test-clean" / "1" / "2"
    directory.mkdir(parents=True)
    (directory / "1-2.trans.txt").write_text("1-2-0000 THERE IS FRESH BREAD ON THE TABLE\n\n")
    samples = audio.load(smoke_clip)

    def heard(samples: np.ndarray, threads: int) -> str:
        soundfile.write(directory / "1-2-0000.flac", samples, audio.SAMPLE_RATE)
        options = Options(librispeech.find(own_home / "speech"), threads=threads)
        (record,) = evaluate(onnx_bundle, options)["test-clean"]
        return record.hypothesis

    assert "table" in heard(samples, 2)
    assert "table" not in heard(samples[::-1], 2)
    assert len(results(own_home)) == 2
    assert "table" in heard(samples, 1)  # its time is not that of two threads
    assert len(results(own_home)) == 3
