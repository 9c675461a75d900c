"""Profiles are measured in fresh processes and add up."""

from __future__ import annotations

import json
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgewhisper_runtime.bundle import parse, to_json
from edgewhisper_runtime.errors import EdgeWhisperError
from edgewhisper_runtime.measure import machine, profile
from edgewhisper_runtime.measure.conditions import Conditions
from edgewhisper_runtime.measure.figures import ProfileReport, summarize, to_markdown


@pytest.fixture(scope="module")
def report(
    onnx_bundle: Path, smoke_clip: Path, tmp_path_factory: pytest.TempPathFactory
) -> ProfileReport:
    """A profile of two processes, in a directory whose files are named as modules are."""
    directory = tmp_path_factory.mktemp("names")
    (directory / "edgewhisper_runtime").mkdir()
    (directory / "numpy.py").write_text("raise SystemExit('not the library of this name')")
    with chdir(directory):
        return profile.profile(onnx_bundle, [smoke_clip, smoke_clip], repetitions=2, threads=2)


def test_every_figure_is_there_and_adds_up(report: ProfileReport) -> None:
    summary = report.summary
    assert len(report.runs) == summary.repetitions == 2
    assert 0 < summary.encoder_share + summary.decoder_share < 1
    assert 0 < summary.first_token_seconds < 60
    assert summary.rtf > 0
    assert summary.rtf_file_p90 >= summary.rtf_file_median
    assert summary.tokens_per_second > 0
    assert report.threads == 2
    assert summary.peak_device_bytes is None


def test_the_state_of_the_machine_is_recorded(report: ProfileReport) -> None:
    for run in report.runs:
        assert run.conditions is not None
        assert run.conditions.threads == 2
        assert (run.energy_joules is None) == ("energy_joules" in report.not_measurable)
    summary = report.summary
    assert summary.disturbed == sum(run.disturbed for run in report.runs)
    assert (report.warning is None) == (summary.disturbed == 0)
    low, high = summary.ranges["rtf"]
    assert low <= summary.rtf <= high


def test_disturbed_runs_do_not_count_beside_others(report: ProfileReport) -> None:
    first, second = report.runs
    quiet, busy = Conditions(1.0, 2, 2, 0.0), Conditions(1.0, 2, 2, 1.5)
    slow = replace(second, conditions=busy, seconds=tuple(9 * s for s in second.seconds))
    runs = (replace(first, conditions=quiet), slow)
    summary = summarize(runs, 1, 1, 1)
    assert summary.rtf == first.rtf
    assert summary.disturbed == 1
    mixed = replace(report, runs=runs, summary=summary)
    assert mixed.warning is not None
    assert mixed.warning.startswith(
        "1 of 2 runs were disturbed: other work kept 1.5 of 2 processors busy. They are left out"
    )
    assert mixed.warning in to_markdown(mixed)
    assert summarize((slow,), 1, 1, 1).rtf == slow.rtf  # all there is


def test_a_report_is_read_back_from_its_json(report: ProfileReport) -> None:
    assert parse(ProfileReport, json.loads(json.dumps(to_json(report)))) == report


def test_memory_is_of_the_measuring_process(report: ProfileReport) -> None:
    summary = report.summary
    assert summary.weight_bytes < summary.peak_rss_load_bytes <= summary.peak_rss_bytes
    assert summary.peak_rss_bytes < 4e9


def test_sizes_on_disk(report: ProfileReport, onnx_bundle: Path) -> None:
    weights = sum(path.stat().st_size for path in onnx_bundle.glob("*.onnx"))
    assert report.summary.weight_bytes == weights
    whole = sum(path.stat().st_size for path in onnx_bundle.iterdir())
    assert report.summary.bundle_bytes == whole
    assert {"onnxruntime", "edgewhisper-runtime"} <= report.installed.keys()
    assert report.installed["onnxruntime"] > 1e6
    assert report.libraries["onnxruntime"]


@pytest.mark.usefixtures("host")
def test_what_the_host_installs_is_counted() -> None:
    of_host = machine.closure("edgewhisper", ["torch", "quanto"])
    assert {"torch", "optimum-quanto", "edgewhisper-runtime"} <= of_host.keys()
    assert of_host["torch"] > 100e6


def test_windows_that_were_encoded_again_are_counted(onnx_bundle: Path, data: Path) -> None:
    """The first of these repeats itself in short context, the second does not."""
    directory = data / "LibriSpeech" / "test-other" / "1998" / "15444"
    files = [directory / f"1998-15444-{number}.flac" for number in ("0008", "0000")]
    found = profile.profile(onnx_bundle, files, 1, threads=2, audio_context="adaptive")
    assert found.summary.windows == 2
    assert found.summary.windows_encoded_again == {"looping": 1, "unsure": 0}
    assert "adaptive, 50% of 2 windows encoded again (1 looping, 0 unsure)" in to_markdown(found)


def test_the_table_shows_the_figures(report: ProfileReport) -> None:
    table = to_markdown(report)
    assert f"{report.summary.rtf:.3f}" in table
    assert report.machine.cpu in table
    assert all(line.startswith("|") and line.endswith("|") for line in table.splitlines())


def test_a_failing_process_is_an_error(onnx_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgeWhisperError, match=r"absent\.wav does not exist") as error:
        profile.profile(onnx_bundle, [tmp_path / "absent.wav"], repetitions=1)
    assert error.value.exit_code == 3


def test_a_recording_without_speech_is_an_error(onnx_bundle: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(32_000), 16_000)
    with pytest.raises(EdgeWhisperError, match="holds no speech to measure with"):
        profile.profile(onnx_bundle, [tmp_path / "silence.wav"], repetitions=1)


def test_peak_rss_is_not_inherited_from_the_parent() -> None:
    import subprocess
    import sys

    ballast = bytearray(500_000_000)
    code = "from edgewhisper_runtime.measure.machine import peak_rss; print(peak_rss())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(ballast) < machine.peak_rss()
    assert int(child.stdout) < 200_000_000
