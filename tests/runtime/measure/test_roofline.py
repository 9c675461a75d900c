"""The roofline: what is counted of an architecture, and what is measured with the engine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgewhisper_runtime.bundle import parse
from edgewhisper_runtime.engines import onnx_file
from edgewhisper_runtime.errors import EdgeWhisperError, NotMeasurableError
from edgewhisper_runtime.measure import peaks, roofline
from edgewhisper_runtime.measure.figures import ProfileReport, to_markdown
from machines import other_work

if TYPE_CHECKING:
    from conftest import BundleOf, Run

# whisper-tiny.en: 4 layers of width 384 in each half, 1500 positions, 80 mel bands
WIDTH, LAYERS, POSITIONS, VOCABULARY = 384, 4, 1500, 51864
ENCODER_WEIGHTS = LAYERS * (4 + 8) * WIDTH**2 * POSITIONS + LAYERS * 2 * WIDTH**2 * POSITIONS
CONVOLUTIONS = 3 * 80 * WIDTH * 2 * POSITIONS + 3 * WIDTH**2 * POSITIONS


@pytest.mark.parametrize("name", ["onnx-int8", "onnx-int4", "fp32"])
def test_the_operations_are_those_of_the_architecture(bundle_of: BundleOf, name: str) -> None:
    graph = onnx_file.read(bundle_of("whisper-tiny.en", name) / "encoder.onnx")
    full, third = (roofline.encoder_work(graph, positions) for positions in (POSITIONS, 500))
    expected = 2 * (ENCODER_WEIGHTS + CONVOLUTIONS)
    assert full.weights == pytest.approx(expected, rel=0.01)
    assert third.weights == pytest.approx(expected / 3, rel=0.01)
    assert full.attention == 2 * 2 * LAYERS * POSITIONS**2 * WIDTH
    assert third.attention == full.attention / 9


@pytest.mark.parametrize(("name", "bytes_of_a_weight"), [("onnx-int8", 1), ("fp32", 4)])
def test_a_step_reads_the_matrices_as_they_are_in_memory(
    bundle_of: BundleOf, name: str, bytes_of_a_weight: int
) -> None:
    """Per layer 4 of self-attention, 2 of cross-attention, 8 of the rest; then the vocabulary."""
    graph = onnx_file.read(bundle_of("whisper-tiny.en", name) / "decoder.onnx")
    weights = LAYERS * (4 + 2 + 8) * WIDTH**2 + VOCABULARY * WIDTH
    assert roofline.step_bytes(graph) == pytest.approx(weights * bytes_of_a_weight, rel=0.03)


def test_profile_shows_it_or_says_why_not(onnx_bundle: Path, run: Run, smoke_clip: Path) -> None:
    arguments = ("profile", onnx_bundle, "--audio", smoke_clip, "--repeat", 1, "--roofline")
    result = run(*arguments, "--json", script="edgewhisper-runtime")
    report = parse(ProfileReport, json.loads(result.stdout))
    table = to_markdown(report)
    if report.roofline is None:
        assert "the machine is busy now" in report.not_measurable["roofline"]
        assert "not measurable: the machine is busy now" in table
        return
    assert report.roofline.encoder_weights_in == "int8"
    assert "Gop/s int8" in table
    for window in report.roofline.windows:
        assert 0 < window.step_share_of_bandwidth <= 1
        assert 0 < window.encoder_share_of_weights + window.encoder_share_of_attention <= 1


def test_it_is_refused_while_the_machine_is_busy(onnx_bundle: Path) -> None:
    with other_work(), pytest.raises(NotMeasurableError, match="the machine is busy now"):
        roofline.measure(onnx_bundle, threads=os.cpu_count() or 1)


def test_peaks_are_rates_of_kernels_that_run_here() -> None:
    assert peaks.read_rate(1, 2**22) > 1e6


def test_only_what_the_engine_runs_has_one(bundle_of: BundleOf) -> None:
    with pytest.raises(EdgeWhisperError, match="runs on torch; the roofline"):
        roofline.measure(bundle_of("whisper-tiny.en", "fp32", "none"), threads=2)
