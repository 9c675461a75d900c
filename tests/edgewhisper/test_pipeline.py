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
from edgewhisper.checkpoints import Checkpoint
from edgewhisper.evaluation import librispeech
from edgewhisper.evaluation.run import Options
from edgewhisper.home import latest_bundle
from edgewhisper.recipes import Recipe, Weights, find_recipe
from edgewhisper_runtime import bundle, load
from edgewhisper_runtime.errors import GateFailedError, GateNotProvenError

INT8 = find_recipe("quanto-int8")
INT2 = replace(
    INT8, name="int2-everywhere", weights=Weights("int2", "asymmetric", "per-group", 128)
)


@pytest.fixture
def options() -> Options:
    return Options(librispeech.find(), limit=6)


def build(
    checkpoint: Checkpoint,
    recipe: Recipe,
    options: Options,
    target: Path | None = None,
    strict: bool = False,
) -> tuple[Path, dict]:
    variant, report = pipeline.measure(checkpoint, recipe, options)
    return pipeline.install(variant, report, target, strict), report


def lenient(recipe: Recipe) -> Recipe:
    """The recipe with a limit that six utterances can prove."""
    return replace(recipe, max_wer_increase=50.0)


def test_a_bundle_is_built_verified_and_remembered(
    tiny_en: Checkpoint, options: Options, home: Path, smoke_clip: Path
) -> None:
    target, report = build(tiny_en, lenient(INT8), options)
    manifest = bundle.verify(target)
    assert latest_bundle() == target.resolve()
    assert report["gate"]["verdict"] == "passed"
    assert manifest.evaluation is not None
    assert manifest.evaluation["verdict"] == "passed"
    assert manifest.evaluation["dataset"]["synthetic"]
    assert manifest.recipe["name"] == "quanto-int8"
    assert manifest.model["weights"] == tiny_en.weights
    assert manifest.libraries["optimum-quanto"] == "0.2.7"
    report_file = home / "reports" / manifest.name / "report.json"
    digest = bundle.describe_files(report_file.parent)["report.json"].sha256
    assert manifest.evaluation["report_sha256"] == digest
    assert "soup" in load(target).transcribe(smoke_clip).text


def test_the_bundle_needs_no_checkpoint(
    tiny_en: Checkpoint, options: Options, tmp_path: Path
) -> None:
    target, _ = build(tiny_en, lenient(INT8), options, target=tmp_path / "b")
    assert (target / "weights.safetensors").stat().st_size < 0.85 * 151e6
    from safetensors import safe_open

    with safe_open(target / "weights.safetensors", "pt") as file:
        names = set(file.keys())
    assert "model.encoder.layers.0.fc1.weight" not in names
    assert "model.encoder.layers.0.fc1.weight._data" in names


def test_a_bad_recipe_fails_the_gate_and_installs_nothing(
    tiny_en: Checkpoint, options: Options, tmp_path: Path, home: Path
) -> None:
    target = tmp_path / "bundle"
    with pytest.raises(GateFailedError, match="the gate failed"):
        build(tiny_en, INT2, replace(options, limit=16), target=target)
    assert not target.exists()
    report = json.loads(
        (home / "reports" / "whisper-tiny.en-int2-everywhere" / "report.json").read_text()
    )
    assert report["gate"]["verdict"] == "failed"
    assert report["summary"]["smoke"]["variant"]["wer"] > 50
    assert report["summary"]["smoke"]["variant"]["looping"] > 0
    assert 1 <= len(report["records"]["variant"]["smoke"]) < 16, "no need to hear the rest"


def test_too_little_data_is_not_proof(
    tiny_en: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = Options(librispeech.find(), limit=2)
    target, report = build(tiny_en, INT8, few, target=tmp_path / "b")
    assert report["gate"]["verdict"] == "not proven"
    manifest = bundle.verify(target)
    assert manifest.evaluation is not None
    assert manifest.evaluation["verdict"] == "not proven"
    assert "utterances a split would settle it" in capsys.readouterr().err
    with pytest.raises(GateNotProvenError, match="--strict"):
        build(tiny_en, INT8, few, target=tmp_path / "strict", strict=True)
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


PROGRAM = """
import sys
from pathlib import Path
from edgewhisper import checkpoints, pipeline
from edgewhisper.evaluation import librispeech
from edgewhisper.evaluation.run import Options
from edgewhisper.recipes import find_recipe
checkpoint = checkpoints.resolve("tiny.en")
options = Options(librispeech.find(), limit=2)
while True:
    print("building", flush=True)
    variant, report = pipeline.measure(checkpoint, find_recipe("quanto-int8"), options)
    pipeline.install(variant, report, Path(sys.argv[1]))
"""


def test_interrupting_a_build_leaves_a_whole_bundle(
    tiny_bundle: Path, tmp_path: Path, home: Path
) -> None:
    target = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    for seconds in (0.05, 0.2, 0.35):
        builder = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(target)], stdout=subprocess.PIPE, text=True
        )
        assert builder.stdout is not None
        builder.stdout.readline()
        builder.stdout.readline()  # the first build, its evaluation included, is done
        time.sleep(seconds)
        builder.send_signal(signal.SIGKILL)
        builder.wait()
        bundle.verify(target)
