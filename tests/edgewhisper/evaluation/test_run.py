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

from edgewhisper.evaluation import datasets, wer
from edgewhisper.evaluation.options import EvaluationOptions
from edgewhisper.evaluation.run import evaluate
from edgewhisper.workspace import Workspace
from edgewhisper_runtime import audio
from edgewhisper_runtime.bundle import Artefact

LONG = "librispeech_1089-134686_concat"
PROGRAM = """
import sys
from pathlib import Path
from edgewhisper.evaluation import datasets
from edgewhisper.evaluation.options import EvaluationOptions
from edgewhisper.evaluation.run import evaluate
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.bundle import Artefact
directory, root = map(Path, sys.argv[1:])
fresh = Workspace(root)
options = EvaluationOptions(datasets.find_dataset(fresh), limit=16)
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
        file.write(b'{"utterance": "c0')  # as if the kill had come in the middle of a line

    options = EvaluationOptions(datasets.find_dataset(fresh), limit=16)
    found = evaluate(fresh, artefact, options)["smoke"]
    assert path.read_bytes().startswith(before)
    damaged, *lines = path.read_text().removeprefix(before.decode()).splitlines()
    assert damaged == '{"utterance": "c0'
    stored = [json.loads(line)["utterance"] for line in [*before.decode().splitlines(), *lines]]
    assert len(stored) == len(set(stored)) == 16
    wanted = datasets.utterances(options.dataset, "smoke", 16)
    assert [record.id for record in found] == [utterance.id for utterance in wanted]

    content = path.read_bytes()
    assert evaluate(fresh, artefact, options)["smoke"] == found
    assert path.read_bytes() == content


def test_a_damaged_line_is_done_again(artefact: Artefact, fresh: Workspace) -> None:
    options = EvaluationOptions(datasets.find_dataset(fresh), limit=2)
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
        options = EvaluationOptions(
            datasets.find_dataset(fresh, librispeech=fresh.root / "speech"), threads=threads
        )
        (record,) = evaluate(fresh, artefact, options)["test-clean"]
        return record.hypothesis

    assert "table" in transcribed(samples, 2)
    assert "table" not in transcribed(samples[::-1], 2)
    (path,) = results(fresh)
    assert path.read_bytes().count(b"\n") == 2
    assert "table" in transcribed(samples, 1)  # its time is not that of two threads
    assert len(results(fresh)) == 2


def test_other_utterances_and_other_references_start_nothing_over(
    artefact: Artefact, fresh: Workspace, data: Path
) -> None:
    """What is stored of an utterance stays valid as long as its audio and its language do."""
    sources = sorted((data / "multilingual" / "en").glob("*.ogg"))[:4]
    manifest = fresh.root / "test.jsonl"

    def texts(*rows: dict[str, object], limit: int | None = None) -> dict[str, str]:
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
        dataset = datasets.find_dataset(fresh, manifest, language="en")
        records = evaluate(fresh, artefact, EvaluationOptions(dataset, limit, threads=1))["test"]
        return {record.id: record.hypothesis for record in records}

    def stored() -> int:
        return sum(path.read_bytes().count(b"\n") for path in results(fresh))

    rows = [{"audio_filepath": str(path), "text": "some words"} for path in sources]
    first = texts(*rows[:3])
    assert stored() == 3
    assert texts(rows[2], rows[0]) == {
        key: first[key] for key in (str(sources[2]), str(sources[0]))
    }
    assert texts(*rows[:3], limit=2).keys() < first.keys()
    corrected = [row | {"text": "other words", "id": f"u{n}"} for n, row in enumerate(rows)]
    assert list(texts(*corrected[:3]).values()) == list(first.values())
    assert stored() == 3
    assert texts(*rows[:3], rows[3]).items() > first.items()
    assert stored() == 4


def test_a_long_recording_goes_through_long_form(
    artefact: Artefact, fresh: Workspace, data: Path
) -> None:
    """All of its 276 s is transcribed, beside a short one of the same batch."""
    chapter = data / "LibriSpeech" / "test-clean" / "1089" / "134686"
    lines = (chapter / "1089-134686.trans.txt").read_text().splitlines()
    text = " ".join(line.partition(" ")[2] for line in lines)
    short = next(chapter.glob("*-0000.flac"))
    rows = [
        {"audio_filepath": str(data / "longform" / f"{LONG}.flac"), "text": text},
        {"audio_filepath": str(short), "text": lines[0].partition(" ")[2]},
    ]
    manifest = fresh.root / "long.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = datasets.find_dataset(fresh, manifest, language="en")
    long, beside = evaluate(fresh, artefact, EvaluationOptions(dataset))["long"]
    assert long.duration > 270
    assert wer.summarize_errors([long]).wer < 15
    assert wer.summarize_errors([beside]).wer < 30
