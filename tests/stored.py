"""Reports and profiles made of the results that docs/results keeps: real texts, nothing decoded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from conftest import REPOSITORY
from edgewhisper import pipeline
from edgewhisper.reports import Report
from edgewhisper.reports.results import SweepResult
from edgewhisper_runtime.bundle import DatasetRecord, File, Manifest, RecipeRecord, parse, to_json
from edgewhisper_runtime.measure.figures import ProfileReport, summarize


def results(model: str) -> Path:
    """The results.json of a model's sweep."""
    return REPOSITORY / "docs" / "results" / model / "results.json"


def swept(model: str) -> SweepResult:
    """The sweep of a model."""
    return SweepResult.read(results(model))


def report(swept: SweepResult, name: str) -> Report:
    """The comparison of one recipe of a sweep with its baseline."""
    roles = {"baseline": "fp32", "variant": name}
    records = {
        role: {
            split: tuple(replace(r, seconds=swept.rtf(recipe) * r.duration) for r in of_split)
            for split, of_split in swept.records(recipe).items()
        }
        for role, recipe in roles.items()
    }
    summary, gate = pipeline.judge(records, 0.5, synthetic=False)
    speed = replace(swept.speed, runs={role: swept.runs(recipe) for role, recipe in roles.items()})
    return Report(
        created=swept.created,
        edgewhisper=swept.edgewhisper,
        dataset=DatasetRecord("LibriSpeech", synthetic=False),
        device="cpu",
        threads=2,
        language="en",
        machine=swept.machine,
        normalizer=swept.normalizer,
        bundles={role: manifest(swept, recipe) for role, recipe in roles.items()},
        summary=summary,
        gate=gate,
        records=records,
        speed=speed,
    )


def manifest(swept: SweepResult, name: str) -> Manifest:
    """The manifest of a recipe's artefact; all weights are in its first file."""
    row = swept.measured[name]
    weights, *others = sorted(row.files, key=lambda file: not file.endswith((".onnx", "tensors")))
    sizes = {weights: row.weight_bytes} | dict.fromkeys(others, 0)
    return Manifest(
        name=f"{swept.model.name}-{name}",
        created=swept.created,
        backend="onnx",
        settings=row.settings,
        model=swept.model,
        recipe=parse(RecipeRecord, to_json(row.recipe)),
        census=row.census,
        libraries=row.libraries,
        files={file: File(sizes[file], row.files[file]) for file in row.files},
    )


def profile(swept: SweepResult, name: str) -> ProfileReport:
    """A profile of a recipe's artefact, of its timed runs."""
    runs, weights = swept.runs(name), swept.measured[name].weight_bytes
    return ProfileReport(
        bundle=f"{swept.model.name}-{name}",
        device="cpu",
        threads=2,
        language="en",
        summary=summarize(runs, weights, weights + 2_600_000, 90_000_000),
        machine=swept.machine,
        libraries={"onnxruntime": "1.32"},
        installed={"onnxruntime": 70_000_000, "numpy": 19_960_000, "click": 40_000},
        roofline=None,
        files=swept.speed.files,
        runs=runs,
    )
