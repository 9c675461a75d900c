"""The roofline: what is counted of an architecture, and what is measured with the engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edgewhisper_runtime.bundle import parse
from edgewhisper_runtime.errors import EdgeWhisperError
from edgewhisper_runtime.measure import roofline
from edgewhisper_runtime.measure.figures import ProfileReport, to_markdown

if TYPE_CHECKING:
    from conftest import BundleOf, Run

# whisper-tiny.en: 4 layers of width 384 in each half, 1500 positions, 80 mel bands
WIDTH, LAYERS, POSITIONS = 384, 4, 1500
ENCODER_WEIGHTS = LAYERS * (4 + 8) * WIDTH**2 * POSITIONS + LAYERS * 2 * WIDTH**2 * POSITIONS
CONVOLUTIONS = 3 * 80 * WIDTH * 2 * POSITIONS + 3 * WIDTH**2 * POSITIONS


def check(found: dict[str, Any]) -> None:
    assert found["int8_operations_per_second"] > 0
    assert found["read_bytes_per_second"] > 0
    full, part = found["windows"]
    expected = 2 * (ENCODER_WEIGHTS + CONVOLUTIONS)
    assert full["encoder_weight_operations"] == pytest.approx(expected, rel=0.01)
    assert part["encoder_weight_operations"] == pytest.approx(expected / 3, rel=0.01)
    assert full["encoder_attention_operations"] == 2 * 2 * LAYERS * POSITIONS**2 * WIDTH
    assert part["encoder_attention_operations"] == full["encoder_attention_operations"] / 9
    cross = LAYERS * 2 * POSITIONS * WIDTH * 4
    assert full["step_bytes"] > cross
    assert full["step_bytes"] - part["step_bytes"] == cross * 2 / 3
    assert full["step_seconds"] > 0


@pytest.mark.parametrize("name", ["onnx-int4", "fp32"])
def test_the_operations_are_those_of_the_architecture(
    bundle_of: BundleOf, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roofline, "_REPEATS", 1)
    check(roofline.measure(bundle_of("whisper-tiny.en", name), threads=2))


def test_profile_shows_it(onnx_bundle: Path, run: Run, smoke_clip: Path) -> None:
    arguments = ("profile", onnx_bundle, "--audio", smoke_clip, "--repeat", 1, "--roofline")
    report = json.loads(run(*arguments, "--json", script="edgewhisper-runtime").stdout)
    check(report["roofline"])
    assert report["roofline"]["encoder_weights_in"] == "int8"
    said = to_markdown(parse(ProfileReport, report))
    assert "Gop/s int8" in said
    assert "to read its" in said


def test_only_what_the_engine_runs_has_one(bundle_of: BundleOf) -> None:
    with pytest.raises(EdgeWhisperError, match="runs on torch; the roofline"):
        roofline.measure(bundle_of("whisper-tiny.en", "fp32", "none"), threads=2)
