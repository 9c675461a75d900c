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

from edgewhisper import pipeline
from edgewhisper.checkpoints import Checkpoint, open_checkpoint
from edgewhisper.evaluation import librispeech
from edgewhisper.evaluation.run import Options
from edgewhisper.home import latest_bundle
from edgewhisper.recipes import Recipe, find_recipe
from edgewhisper_runtime import bundle, load
from edgewhisper_runtime.errors import GateNotProvenError

INT8 = find_recipe("quanto-int8")
# With a limit that three utterances can prove.
LENIENT = replace(INT8, name="lenient", max_wer_increase=50.0)


@pytest.fixture(scope="module")
def options() -> Options:
    return Options(librispeech.find(), limit=3)


def build(
    checkpoint: Checkpoint,
    recipe: Recipe,
    options: Options,
    target: Path | None = None,
    strict: bool = False,
) -> tuple[Path, dict]:
    variant, report = pipeline.measure(checkpoint, recipe, options)
    return pipeline.install(variant, report, target, strict), report


def test_a_bundle_is_built_verified_and_remembered(
    tiny_en: Checkpoint, options: Options, home: Path, smoke_clip: Path
) -> None:
    target, report = build(tiny_en, LENIENT, options)
    manifest = bundle.verify(target)
    assert latest_bundle() == target.resolve()
    assert report["gate"]["verdict"] == "passed"
    assert manifest.evaluation is not None
    assert manifest.evaluation.verdict == "passed"
    assert manifest.evaluation.dataset.synthetic
    assert manifest.recipe.name == "lenient"
    assert manifest.model.weights == tiny_en.weights
    assert manifest.libraries["optimum-quanto"] == "0.2.7"
    report_file = home / "reports" / manifest.name / "report.json"
    digest = bundle.describe_files(report_file.parent)["report.json"].sha256
    assert manifest.evaluation.report_sha256 == digest
    assert "soup" in load(target).transcribe(smoke_clip).text

    # All of the model is in it, and what is quantized is not there in float a second time.
    assert (target / "weights.safetensors").stat().st_size < 0.85 * 151e6
    from safetensors import safe_open

    with safe_open(target / "weights.safetensors", "pt") as file:
        names = set(file.keys())
    assert "model.encoder.layers.0.fc1.weight" not in names
    assert "model.encoder.layers.0.fc1.weight._data" in names


def test_too_little_data_is_not_proof(
    tiny_en: Checkpoint, options: Options, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, report = build(tiny_en, INT8, options, target=tmp_path / "b")
    assert report["gate"]["verdict"] == "not proven"
    manifest = bundle.verify(target)
    assert manifest.evaluation is not None
    assert manifest.evaluation.verdict == "not proven"
    assert "utterances a split would settle it" in capsys.readouterr().err
    with pytest.raises(GateNotProvenError, match="--strict"):
        build(tiny_en, INT8, options, target=tmp_path / "strict", strict=True)
    assert not (tmp_path / "strict").exists()


def test_a_staged_variant_is_reused_only_if_it_is_the_same(tiny_en: Checkpoint) -> None:
    directory = pipeline.stage(tiny_en, INT8)
    written = (directory / "weights.safetensors").stat().st_mtime_ns
    assert pipeline.stage(tiny_en, INT8) == directory
    assert (directory / "weights.safetensors").stat().st_mtime_ns == written
    with (directory / "weights.safetensors").open("r+b") as file:
        file.write(b"\xff")
    pipeline.stage(tiny_en, INT8)
    assert (directory / "weights.safetensors").stat().st_mtime_ns != written
    bundle.verify(directory)


def test_what_the_checkpoint_has_beside_its_weights_counts_too(
    tiny_en: Checkpoint, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(tiny_en.path, tmp_path / "copy"))
    recipe = find_recipe("onnx-int8")
    before = bundle.read_manifest(pipeline.stage_export(open_checkpoint(copy), recipe))
    for name in ("generation_config.json", "tokenizer.json"):
        content = json.loads((copy / name).read_text())
        content.pop("suppress_tokens", None)
        (copy / name).write_text(json.dumps(content, indent=3))
    after = bundle.read_manifest(pipeline.stage_export(open_checkpoint(copy), recipe))
    assert before.settings.suppress
    assert not after.settings.suppress
    assert before.files["tokenizer.json"] != after.files["tokenizer.json"]
    assert before.files["encoder.onnx"] == after.files["encoder.onnx"]


PROGRAM = """
import json, sys
from pathlib import Path
from edgewhisper import pipeline
variant, report, target = map(Path, sys.argv[1:])
report = json.loads(report.read_text())
while True:
    print("installing", flush=True)
    pipeline.install(variant, report, target)
"""


def test_a_kill_leaves_a_whole_bundle(
    tiny_en: Checkpoint, options: Options, tmp_path: Path, home: Path
) -> None:
    variant, report = pipeline.measure(tiny_en, INT8, options)
    target = pipeline.install(variant, report, tmp_path / "bundle")
    kept = home / "reports" / variant.name / "report.json"
    command = [sys.executable, "-c", PROGRAM, variant, kept, target]
    for seconds in (0.05, 0.2, 0.35):
        builder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert builder.stdout is not None
        builder.stdout.readline()
        builder.stdout.readline()  # one has been installed whole
        time.sleep(seconds)
        builder.send_signal(signal.SIGKILL)
        builder.wait()
        bundle.verify(target)
