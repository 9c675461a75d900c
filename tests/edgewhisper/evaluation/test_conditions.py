"""Speech in noise, at a level, at a speed, on a telephone line: the same samples every time."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from conftest import Run
from edgewhisper.evaluation.conditions import CLEAN, Condition, find_conditions
from edgewhisper.evaluation.datasets import find_dataset
from edgewhisper.evaluation.options import EvaluationOptions
from edgewhisper.evaluation.run import evaluate, recorded
from edgewhisper.reports import Report, read_sweep
from edgewhisper.workspace import Workspace
from edgewhisper_runtime import audio
from edgewhisper_runtime.bundle import Artefact, parse, to_json
from edgewhisper_runtime.errors import DataError

RATE = audio.SAMPLE_RATE


@pytest.fixture(scope="module")
def noise(data: Path) -> Path:
    return data / "noise"


@pytest.fixture(scope="module")
def clip(speech: list[Path]) -> np.ndarray:
    """Speech so quiet that noise as loud is no reason to make it quieter."""
    return audio.load(speech[0]) / 8


def condition(workspace: Workspace, text: str) -> Condition:
    (found,) = find_conditions(workspace.hashes, [text])
    return found


def power(samples: np.ndarray) -> float:
    return 10 * np.log10(np.square(samples, dtype=np.float64).mean())


def tone(frequency: float, seconds: float = 1.0) -> np.ndarray:
    times = np.arange(int(RATE * seconds)) / RATE
    return (0.1 * np.sin(2 * np.pi * frequency * times)).astype(np.float32)


def pitch(samples: np.ndarray) -> float:
    return np.abs(np.fft.rfft(samples)).argmax() * RATE / len(samples)


@pytest.mark.parametrize("ratio", [20, 5, 0])
def test_noise_is_at_the_ratio_and_the_same_at_each(
    workspace: Workspace, noise: Path, clip: np.ndarray, ratio: float
) -> None:
    loud = condition(workspace, f"noise={noise},snr={ratio}").apply(clip, "1-2-3")
    assert loud.dtype == np.float32
    assert len(loud) == len(clip)
    added = loud - clip
    assert power(clip) - power(added) == pytest.approx(ratio, abs=0.01)
    quiet = condition(workspace, f"noise={noise},snr=40").apply(clip, "1-2-3") - clip
    assert np.corrcoef(added, quiet)[0, 1] > 0.999


def test_noise_depends_on_the_utterance_and_the_seed_alone(
    workspace: Workspace, noise: Path, clip: np.ndarray, tmp_path: Path
) -> None:
    text = f"noise={noise},snr=0"
    first = condition(workspace, text).apply(clip, "a")
    assert (first == condition(workspace, text).apply(clip, "a")).all()
    assert (first != condition(workspace, text).apply(clip, "b")).any()
    assert (first != condition(workspace, f"{text},seed=1").apply(clip, "a")).any()

    moved = tmp_path / "a+b, seed=1"  # what a path may hold is not taken for something else
    moved.mkdir()
    for path in noise.iterdir():
        (moved / path.name).write_bytes(path.read_bytes())
    elsewhere = condition(workspace, f"noise={moved},snr=0")
    assert elsewhere == condition(workspace, text)
    assert elsewhere.identity == condition(workspace, text).identity
    assert (first == elsewhere.apply(clip, "a")).all()


def test_another_process_mixes_the_same(
    workspace: Workspace, noise: Path, speech: list[Path], clip: np.ndarray
) -> None:
    program = (
        "import hashlib, sys; from pathlib import Path; from edgewhisper.hashes import HashCache\n"
        "from edgewhisper.evaluation.conditions import find_conditions\n"
        "from edgewhisper_runtime import audio\n"
        "found, = find_conditions(HashCache(Path(sys.argv[1])), [sys.argv[2]])\n"
        "samples = found.apply(audio.load(sys.argv[3]) / 8, 'a')\n"
        "print(hashlib.sha256(samples.tobytes()).hexdigest())"
    )
    text = f"speed=1.1,noise={noise},snr=3,level=-30,telephone"
    command = [sys.executable, "-c", program, str(workspace.root / "h"), text, str(speech[0])]
    there = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    here = condition(workspace, text).apply(clip, "a")
    assert there == hashlib.sha256(here.tobytes()).hexdigest()


def test_short_noise_begins_again_and_silent_noise_is_refused(
    workspace: Workspace, clip: np.ndarray, tmp_path: Path
) -> None:
    pause = np.zeros(60 * RATE)
    for name, samples in (("short", tone(1000, 0.5)), ("silent", np.append(pause, tone(1000)))):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "noise.wav", samples, RATE)
    added = condition(workspace, f"noise={tmp_path / 'short'},snr=0").apply(clip, "a") - clip
    pieces = added[: len(clip) // RATE * RATE].reshape(-1, RATE)
    assert [round(power(piece), 1) for piece in pieces] == [round(power(clip), 1)] * len(pieces)
    silent = condition(workspace, f"noise={tmp_path / 'silent'},snr=0")
    with pytest.raises(DataError, match=r"noise\.wav is silent"):
        silent.apply(clip, "b")


def test_a_level_is_reached_but_nothing_is_clipped(
    workspace: Workspace, noise: Path, clip: np.ndarray
) -> None:
    quiet = condition(workspace, "level=-40").apply(clip, "a")
    assert power(quiet) == pytest.approx(-40, abs=0.01)
    loud = condition(workspace, "level=0").apply(clip, "a")
    assert np.abs(loud).max() == pytest.approx(1)
    assert np.corrcoef(loud, clip)[0, 1] > 0.99999
    mixed = condition(workspace, f"noise={noise},snr=-40").apply(clip, "a")
    assert np.abs(mixed).max() <= 1
    silence = np.zeros(RATE, np.float32)
    assert (condition(workspace, f"noise={noise},snr=0,level=-20").apply(silence, "a") == 0).all()


@pytest.mark.parametrize(
    ("frequency", "passed"),
    [(100, 0.0), (150, 0.0), (400, 1.0), (1000, 1.0), (3300, 1.0), (3700, 0.5), (4500, 0.0)],
)
def test_a_telephone_leaves_its_band(workspace: Workspace, frequency: int, passed: float) -> None:
    heard = condition(workspace, "telephone").apply(tone(frequency), "a")
    assert heard.dtype == np.float32
    assert np.abs(heard).max() == pytest.approx(0.1 * passed, abs=1e-3)


def test_speed_changes_length_and_pitch(workspace: Workspace) -> None:
    fast = condition(workspace, "speed=1.25").apply(tone(800), "a")
    assert fast.dtype == np.float32
    assert len(fast) == pytest.approx(RATE / 1.25, abs=2)
    assert pitch(fast) == pytest.approx(1000, abs=5)


def test_ratios_are_a_range(workspace: Workspace, noise: Path) -> None:
    texts = ["clean", f"noise={noise},snr=0:20:5,telephone", "speed=0.9,level=-30"]
    found = find_conditions(workspace.hashes, texts)
    assert [each.label for each in found] == [
        "clean",
        *(f"noise {ratio} dB, telephone" for ratio in (0, 5, 10, 15, 20)),
        "speed 0.9, level -30 dB",
    ]
    assert find_conditions(workspace.hashes, []) == (CLEAN,)
    tenths = find_conditions(workspace.hashes, [f"noise={noise},snr=0:0.3:0.1"])
    assert [each.noise.snr for each in tenths] == pytest.approx([0, 0.1, 0.2, 0.3])
    for each in found:
        assert parse(Condition, json.loads(json.dumps(to_json(each)))) == each


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not understood"),
        ("babble", "not understood"),
        ("/music", "not understood"),
        ("telephone=1", "takes no value"),
        ("level", "takes a value"),
        ("level=", "level takes a value"),
        ("level=3", "must be from -90 to 0"),
        ("speed=0", "must be from 0.5 to 2"),
        ("speed=nan", "finite"),
        ("level=-20,level=-30", "twice"),
        ("clean,telephone", "alone"),
        ("snr=3", "go together"),
        ("noise=NOISE", "go together"),
        ("seed=3", "seed is of noise"),
        ("noise=NOISE,snr=loud", "FROM:TO:STEP"),
        ("noise=NOISE,snr=20:0:5", "FROM:TO:STEP"),
        ("noise=NOISE,snr=0:20:0", "FROM:TO:STEP"),
        ("noise=NOISE,snr=nan", "finite"),
        ("noise=NOISE,snr=500", "must be from -40 to 100"),
        ("noise=NOISE,snr=0:90:1", "too many"),
        ("noise=NOISE,snr=0:1:1e-320", "too many"),
        ("noise=NOISE,snr=10:11:1e-9", "too many"),
        ("noise=NOISE,snr=-1e308:1e308:1", "must be from -40 to 100"),
        ("noise=NOISE,snr=-inf:0:1", "FROM:TO:STEP"),
        ("noise=NOISE,snr=3,seed=-1", "seed"),
        ("noise=/nowhere,snr=3", "/nowhere holds no audio file"),
        ("noise=,snr=3", "noise takes a value"),
    ],
)
def test_what_is_no_condition_is_said_at_once(
    workspace: Workspace, noise: Path, text: str, message: str
) -> None:
    text = text.replace("NOISE", str(noise))
    with pytest.raises(DataError, match=message) as error:
        find_conditions(workspace.hashes, [text])
    assert "\n" not in str(error.value)


def test_noise_that_cannot_be_read_is_said_before_any_work(
    workspace: Workspace, tmp_path: Path
) -> None:
    for name in ("a.wav", "b.flac"):
        (tmp_path / name).write_text("no audio")
    os.mkfifo(tmp_path / "c.wav")
    for name, samples in (
        ("empty.wav", []), ("fine.wav", tone(440)), ("nan.wav", [np.nan]),
        ("silent.wav", np.zeros(9)),
    ):  # fmt: skip
        soundfile.write(tmp_path / name, samples, RATE, subtype="FLOAT")
    with pytest.raises(DataError, match="Take such files out") as error:
        find_conditions(workspace.hashes, [f"noise={tmp_path},snr=3"])
    for reason in (
        "a.wav is of no format", "b.flac is of no format", "c.wav is a pipe",
        "empty.wav holds 0 s of audio", "nan.wav has NaN or infinite", "silent.wav is silent",
    ):  # fmt: skip
        assert f"{tmp_path}/{reason}" in str(error.value)
    assert "fine.wav" not in str(error.value)


def test_two_of_the_same_name_are_refused(workspace: Workspace, run: Run, noise: Path) -> None:
    text = f"noise={noise},snr=10"
    with pytest.raises(DataError, match="two conditions are called 'noise 10 dB'"):
        find_conditions(workspace.hashes, [text, text])
    for name in (f"noise={noise},snr=", "level="):  # zero has a sign
        with pytest.raises(DataError, match=r"two conditions are called '.* 0 dB"):
            find_conditions(workspace.hashes, [f"{name}-0.0", f"{name}0"])
    done = run("evaluate", "--model=whisper-tiny.en", "--condition", "babble")
    assert done.returncode == 8
    assert "--condition babble" in done.stderr


def test_each_condition_is_an_evaluation_of_its_own(
    onnx_bundle: Path, noise: Path, tmp_path: Path
) -> None:
    fresh = Workspace(tmp_path)
    texts = [f"noise={noise},snr=-20", "clean", "speed=1.25"]
    options = EvaluationOptions(
        find_dataset(fresh), limit=2, conditions=find_conditions(fresh.hashes, texts)
    )
    artefact = Artefact.verified(onnx_bundle)
    records = evaluate(fresh, artefact, options)
    assert list(records) == ["smoke, noise -20 dB", "smoke", "smoke, speed 1.25"]
    noisy, clean, _ = ([record.hypothesis for record in of] for of in records.values())
    assert noisy != clean
    assert [record.id for record in records["smoke"]] == [
        record.id for record in records["smoke, speed 1.25"]
    ]
    assert records["smoke, speed 1.25"][0].duration == pytest.approx(
        records["smoke"][0].duration / 1.25
    )
    assert recorded(fresh, artefact, options) == records
    alone = EvaluationOptions(options.dataset, limit=2)
    assert [record.hypothesis for record in recorded(fresh, artefact, alone)["smoke"]] == clean


def test_a_sweep_draws_wer_against_noise(
    tiny_en: object, run: Run, noise: Path, tmp_path: Path
) -> None:
    done = run(
        "sweep", "--model=whisper-tiny.en", "--recipe=onnx-int8", "--limit=2", "--rounds=0",
        f"--condition=noise={noise},snr=0:20:10", "--condition=clean", "--condition=telephone",
        "--output", tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "\n| WER % smoke | noise 0 dB | noise 10 dB | noise 20 dB | clean | telephone |" in (
        done.stdout
    )
    plot = (tmp_path / "noise.svg").read_text()
    for word in ("onnx-int8", "fp32", "WER % smoke, noise", "speech to noise, dB", "clean"):
        assert f">{word}<" in plot
    result = read_sweep(tmp_path)
    assert result is not None
    described = result.conditions["smoke, noise 10 dB"].condition.noise
    assert described is not None
    assert set(described.files) == {path.name for path in noise.iterdir()}
    assert run("score", tmp_path / "results.json").stdout == done.stdout
    other = run(
        "sweep", "--model=whisper-tiny.en", "--recipe=onnx-int8", "--limit=2", "--rounds=0",
        "--output", tmp_path,
    )  # fmt: skip
    assert other.returncode == 8


def test_a_report_describes_its_conditions(
    tiny_en: object, run: Run, onnx_bundle: Path, noise: Path, tmp_path: Path
) -> None:
    done = run(
        "evaluate", "--bundle", onnx_bundle, "--limit=2", "--rounds=1", "--output", tmp_path,
        "--condition", f"noise={noise},snr=10,telephone,seed=5",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = Report.read(tmp_path / "report.json")
    assert report.speed is not None
    assert {role: len(runs) for role, runs in report.speed.runs.items()} == {
        "baseline": 1,
        "variant": 1,
    }
    (each,) = report.conditions.values()
    assert (each.split, each.condition.telephone) == ("smoke", True)
    assert each.condition.noise is not None
    assert each.condition.noise.seed == 5
    for name in ("report.md", "report.html"):
        page = (tmp_path / name).read_text()
        assert "smoke, noise seed 5 10 dB, telephone" in page
    assert next(iter(each.condition.noise.files.values())) in (tmp_path / "report.md").read_text()
