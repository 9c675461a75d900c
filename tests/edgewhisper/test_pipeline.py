"""The main job on real weights: what is built, what is refused, what an interruption leaves."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import edgewhisper
from edgewhisper import pipeline
from edgewhisper.checkpoints import Checkpoint, open_checkpoint
from edgewhisper.evaluation import datasets
from edgewhisper.evaluation.options import EvaluationOptions
from edgewhisper.recipes import find_recipe
from edgewhisper.reports import Report
from edgewhisper.workspace import Workspace
from edgewhisper_runtime import bundle
from edgewhisper_runtime.errors import GateNotProvenError

INT8 = find_recipe("quanto-int8")
# With a limit that three utterances can prove.
LENIENT = replace(INT8, name="lenient", max_wer_increase=100.0)


@pytest.fixture(scope="module")
def options(workspace: Workspace, data: Path) -> EvaluationOptions:
    """Three utterances of people."""
    dataset = datasets.find_dataset(workspace, data / "LibriSpeech", ("test-clean",))
    return EvaluationOptions(dataset, limit=3)


def test_a_bundle_is_built_verified_and_remembered(
    workspace: Workspace, tiny_en: Checkpoint, options: EvaluationOptions, smoke_clip: Path
) -> None:
    built = edgewhisper.build(
        tiny_en.name, LENIENT, options, export="none", rounds=0, workspace=workspace
    )
    target = built.bundle.path
    manifest = bundle.verify(target)
    assert manifest == built.bundle.manifest
    assert workspace.latest_bundle() == target.resolve()
    assert built.report.gate.verdict == "passed"
    assert manifest.evaluation is not None
    assert manifest.evaluation.verdict == "passed"
    assert not manifest.evaluation.dataset.synthetic
    assert manifest.recipe.name == "lenient"
    assert manifest.model.weights == tiny_en.weights
    assert manifest.libraries["optimum-quanto"] == "0.2.7"
    digest = bundle.describe_file(target / "report.json").sha256
    assert manifest.evaluation.report_sha256 == manifest.files["report.json"].sha256 == digest
    assert manifest.evaluation.created == built.report.created
    assert Report.read(target / "report.json") == built.report
    for name in ("report.json", "report.md", "report.html"):
        assert (target / name).read_bytes() == (built.report_directory / name).read_bytes()
    assert (
        "soup" in edgewhisper.load(manifest.name, workspace=workspace).transcribe(smoke_clip).text
    )

    # All of the model is in it, and what is quantized is not there in float a second time.
    assert (target / "weights.safetensors").stat().st_size < 0.85 * 151e6
    from safetensors import safe_open

    with safe_open(target / "weights.safetensors", "pt") as file:
        names = set(file.keys())
    assert "model.encoder.layers.0.fc1.weight" not in names
    assert "model.encoder.layers.0.fc1.weight._data" in names


def test_too_little_data_is_not_proof(
    workspace: Workspace,
    tiny_en: Checkpoint,
    options: EvaluationOptions,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def build(name: str, *, strict: bool = False) -> edgewhisper.Built:
        return edgewhisper.build(
            tiny_en.name, INT8, options, output=tmp_path / name, strict=strict, export="none",
            rounds=0, workspace=workspace,
        )  # fmt: skip

    built = build("bundle")
    assert built.report.gate.verdict == "not proven"
    assert built.bundle.manifest.evaluation is not None
    assert built.bundle.manifest.evaluation.verdict == "not proven"
    assert "would settle it" in caplog.text
    with pytest.raises(GateNotProvenError, match="--strict"):
        build("strict", strict=True)
    assert not (tmp_path / "strict").exists()


def test_synthetic_speech_refuses_nothing(
    workspace: Workspace, tiny_en: Checkpoint, tmp_path: Path
) -> None:
    built = edgewhisper.build(
        tiny_en.name,
        replace(INT8, name="none-allowed", max_wer_increase=0.0),
        EvaluationOptions(datasets.find_dataset(workspace), limit=2),
        output=tmp_path / "bundle",
        export="none",
        rounds=0,
        workspace=workspace,
    )
    assert built.bundle.manifest.evaluation is not None
    assert built.bundle.manifest.evaluation.verdict == "not judged"


def test_an_evaluation_does_not_change_what_is_evaluated(
    workspace: Workspace, tiny_en: Checkpoint, onnx_bundle: Path, options: EvaluationOptions
) -> None:
    """Audio context is an option: the export's manifest stays as it is."""
    before = (onnx_bundle / bundle.MANIFEST).read_bytes()
    adaptive = replace(options, audio_context="adaptive")
    report = edgewhisper.evaluate(options=adaptive, bundle=onnx_bundle, workspace=workspace)
    assert report.variant.audio_context == "adaptive"
    assert report.baseline.audio_context == "full"
    assert (onnx_bundle / bundle.MANIFEST).read_bytes() == before


@pytest.fixture
def beside_development_speech(
    workspace: Workspace, data: Path, tmp_path: Path
) -> EvaluationOptions:
    """Three utterances, and one speaker of dev-clean in the directory beside their split."""
    (tmp_path / "dev-clean").mkdir()
    (tmp_path / "test-clean").symlink_to(data / "LibriSpeech" / "test-clean")
    speaker = min((data / "LibriSpeech" / "dev-clean").iterdir())
    (tmp_path / "dev-clean" / speaker.name).symlink_to(speaker)
    dataset = datasets.find_dataset(workspace, splits=("test-clean",), librispeech=tmp_path)
    return EvaluationOptions(dataset, limit=3)


def test_an_export_ships_with_adaptive_context_where_it_is_proven(
    workspace: Workspace,
    tiny_en: Checkpoint,
    beside_development_speech: EvaluationOptions,
    tmp_path: Path,
) -> None:
    recipe = replace(find_recipe("onnx-int8"), name="lenient", max_wer_increase=100.0)
    built = edgewhisper.build(
        tiny_en.name,
        recipe,
        beside_development_speech,
        output=tmp_path / "bundle",
        rounds=0,
        workspace=workspace,
    )
    full, adaptive = built.report.contexts
    assert (full.audio_context, full.difference) == ("full", None)
    assert adaptive.audio_context == "adaptive"
    assert adaptive.proven
    assert adaptive.difference is not None
    assert adaptive.difference.interval.high <= 100.0
    manifest = bundle.verify(tmp_path / "bundle")
    assert manifest.audio_context == built.report.variant.audio_context == "adaptive"
    threshold = manifest.settings.adaptive.min_log_probability
    assert threshold is not None
    assert -1.0 < threshold < 0.0


def test_an_audio_context_that_loses_words_does_not_ship(
    workspace: Workspace, tiny_en: Checkpoint, options: EvaluationOptions
) -> None:
    baseline = pipeline.stage(workspace, tiny_en, find_recipe("fp32"))
    variant = pipeline.stage_export(workspace, tiny_en, find_recipe("onnx-int8"))
    full, adaptive = (
        pipeline.compare(
            workspace, baseline, variant, 50.0, replace(options, audio_context=context)
        )
        for context in ("full", "adaptive")
    )
    assert pipeline.choose_context(full, adaptive).variant.audio_context == "adaptive"
    cut = {
        split: tuple(replace(record, hypothesis=record.hypothesis[:10]) for record in records)
        for split, records in adaptive.records["variant"].items()
    }
    records = {**adaptive.records, "variant": cut}
    summary, gate = pipeline.judge(records, 50.0, synthetic=False)
    loses = replace(adaptive, records=records, summary=summary, gate=gate)
    chosen = pipeline.choose_context(full, loses)
    assert chosen.variant.audio_context == "full"
    assert chosen.gate == full.gate
    assert not chosen.contexts[1].proven


def test_a_staged_variant_is_reused_only_if_it_is_the_same(
    workspace: Workspace, tiny_en: Checkpoint
) -> None:
    directory = pipeline.stage(workspace, tiny_en, INT8).path
    written = (directory / "weights.safetensors").stat().st_mtime_ns
    assert pipeline.stage(workspace, tiny_en, INT8).path == directory
    assert (directory / "weights.safetensors").stat().st_mtime_ns == written
    with (directory / "weights.safetensors").open("r+b") as file:
        file.write(b"\xff")
    pipeline.stage(workspace, tiny_en, INT8)
    assert (directory / "weights.safetensors").stat().st_mtime_ns != written
    bundle.verify(directory)


def export(workspace: Workspace, checkpoint: Path) -> bundle.Manifest:
    opened = open_checkpoint(workspace, checkpoint)
    return pipeline.stage_export(workspace, opened, find_recipe("onnx-int8")).manifest


def test_what_the_checkpoint_has_beside_its_weights_counts_too(
    workspace: Workspace, tiny_en: Checkpoint, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(tiny_en.path, tmp_path / "copy"))
    before = export(workspace, copy)
    for name in ("generation_config.json", "tokenizer.json"):
        content = json.loads((copy / name).read_text())
        content.pop("suppress_tokens", None)
        (copy / name).write_text(json.dumps(content, indent=3))
    after = export(workspace, copy)
    assert before.settings.suppress
    assert not after.settings.suppress
    assert before.files["tokenizer.json"] != after.files["tokenizer.json"]
    assert before.files["encoder.onnx"] == after.files["encoder.onnx"]


PROGRAM = """
import sys
from pathlib import Path
from edgewhisper import Workspace, pipeline
from edgewhisper.reports import Report
variant, directory, target = map(Path, sys.argv[1:])
workspace, report = Workspace.from_environment(), Report.read(directory / "report.json")
while True:
    print("installing", flush=True)
    pipeline.install(workspace, workspace.open(variant), report, directory, target)
"""


def test_a_kill_leaves_a_whole_bundle(
    workspace: Workspace, tiny_en: Checkpoint, options: EvaluationOptions, tmp_path: Path
) -> None:
    target = tmp_path / "bundle"
    built = edgewhisper.build(
        tiny_en.name, INT8, options, output=target, export="none", rounds=0, workspace=workspace
    )
    variant = workspace.variants / built.bundle.manifest.name
    command = [sys.executable, "-c", PROGRAM, variant, built.report_directory, target]
    for seconds in (0.05, 0.2, 0.35):
        builder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert builder.stdout is not None
        builder.stdout.readline()
        builder.stdout.readline()  # one has been installed whole
        time.sleep(seconds)
        builder.send_signal(signal.SIGKILL)
        builder.wait()
        bundle.verify(target)
