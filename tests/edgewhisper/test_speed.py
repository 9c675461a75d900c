"""Timings are kept as long as measuring again would measure the same."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from edgewhisper import speed
from edgewhisper.evaluation import datasets
from edgewhisper.evaluation.options import EvaluationOptions
from edgewhisper.reports import Timing
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.bundle import Artefact


@pytest.fixture
def options(workspace: Workspace, speech: list[Path], tmp_path: Path) -> EvaluationOptions:
    """One recording, whose file may be changed."""
    shutil.copyfile(speech[0], tmp_path / "clip.flac")
    with (tmp_path / "list.csv").open("w") as file:
        csv.writer(file).writerows([("audio_filepath", "text"), ("clip.flac", "a clip")])
    dataset = datasets.find_dataset(workspace, tmp_path / "list.csv")
    return EvaluationOptions(dataset, threads=1)


@pytest.fixture
def artefact(onnx_bundle: Path) -> Artefact:
    return Artefact.verified(onnx_bundle)


def measured(
    variants: Mapping[str, Artefact], options: EvaluationOptions, earlier: Timing | None = None
) -> Timing:
    *_, timing = speed.measure(variants, options, 1, earlier)
    return timing


def as_if_quiet(timing: Timing) -> Timing:
    """Return a timing as it were of a machine without other work, where nothing is repeated."""
    runs = {
        name: tuple(replace(run, conditions=None) for run in of_variant)
        for name, of_variant in timing.runs.items()
    }
    return replace(timing, runs=runs)


def test_what_is_the_same_is_kept(
    artefact: Artefact, options: EvaluationOptions, speech: list[Path]
) -> None:
    first = as_if_quiet(measured({"first": artefact}, options))
    assert first.libraries == {"first": artefact.manifest.libraries}
    assert len(first.runs["first"]) == 1

    both = as_if_quiet(measured({"second": artefact}, options, first))
    assert both.runs["first"] == first.runs["first"]
    assert len(both.runs["second"]) == 1
    assert measured({"first": artefact, "second": artefact}, options, both) == both

    libraries = artefact.manifest.libraries | {"onnxruntime": "0.1"}
    older = replace(artefact, manifest=replace(artefact.manifest, libraries=libraries))
    other = measured({"first": older}, options, both)
    assert other.libraries["first"] == libraries
    assert len(other.runs["first"]) == 1
    assert other.runs["first"] != both.runs["first"]
    assert other.runs["second"] == both.runs["second"]

    adaptive = measured({"first": artefact}, replace(options, audio_context="adaptive"), both)
    assert [run.audio_context for run in adaptive.runs["first"]] == ["adaptive"]

    ((utterance,),) = options.dataset.utterances.values()
    shutil.copyfile(speech[1], utterance.path)
    changed = measured({"first": artefact}, options, both)
    assert changed.files == both.files
    assert changed.audio != both.audio
    assert set(changed.runs) == {"first"}
    assert changed.runs["first"] != both.runs["first"]
