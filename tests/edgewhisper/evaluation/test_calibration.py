"""Calibration hears dev speech only, and the manifest says which."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgewhisper.checkpoints import Checkpoint
from edgewhisper.evaluation import calibration
from edgewhisper.recipes import find_recipe
from edgewhisper.recipes.schema import Calibration
from edgewhisper.workspace import Workspace
from edgewhisper_runtime import bundle
from edgewhisper_runtime.errors import DataError
from variants import stage

STATIC = replace(find_recipe("pytorch-int8-static"), calibration=Calibration("dev-clean", 2))


def test_the_manifest_says_what_was_heard(tiny_en: Checkpoint, data: Path) -> None:
    speech = data / "LibriSpeech"
    recipe = replace(STATIC, name="static-two", scope=("encoder.fc1",))
    manifest = bundle.read_manifest(stage(tiny_en, recipe, speech))
    assert manifest.calibration is not None
    heard = manifest.calibration.utterances
    assert len(heard) == 2
    of_split = {path.stem for path in (speech / "dev-clean").rglob("*.flac")}
    assert set(heard) <= of_split
    assert bundle.read_manifest(stage(tiny_en, find_recipe("fp32"))).calibration is None


def test_other_speech_is_another_variant(data: Path) -> None:
    speech = data / "LibriSpeech"
    two, three = (
        calibration.utterances(replace(STATIC, calibration=Calibration("dev-clean", n)), speech)
        for n in (2, 3)
    )
    hashes = Workspace.from_environment().hashes
    assert calibration.describe(two, hashes) != calibration.describe(three, hashes)


def test_without_its_split_it_is_refused(tmp_path: Path) -> None:
    for speech in (None, tmp_path):
        with pytest.raises(DataError, match="data librispeech --split dev-clean"):
            calibration.utterances(STATIC, speech)
