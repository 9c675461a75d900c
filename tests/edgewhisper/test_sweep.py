"""A sweep compares alike, resumes, outlives failing recipes, and can be scored again."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import psutil
import pytest

from conftest import Run
from edgewhisper import sweeps
from edgewhisper.checkpoints import Checkpoint
from edgewhisper.evaluation import datasets
from edgewhisper.evaluation.options import EvaluationOptions
from edgewhisper.recipes import find_recipe
from edgewhisper.recipes.schema import Weights
from edgewhisper.reports import FailedRow, read_sweep, write_sweep
from edgewhisper.reports.matrix import pareto
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.errors import RecipeError

NAMES = ("onnx-int8", "quanto-int2", "pytorch-int8-static")
LIMIT = 12  # two batches


@pytest.fixture(scope="module")
def swept(run: Run, tiny_en: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep over recipes that work, collapse, and fail for lack of calibration data."""
    where = tmp_path_factory.mktemp("sweep")
    recipes = [f"--recipe={name}" for name in ("fp32", *NAMES)]  # the baseline goes without saying
    result = run(
        "sweep", "--model=whisper-tiny.en", *recipes, "--limit", LIMIT, "--rounds=1",
        "--output", where,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "3 of 3 recipes to do, 12 utterances each: about 0 h" in result.stderr
    assert result.stdout.startswith(
        "| recipe | artefact | quantization | scope | MB | WER % smoke |"
    )
    _set_other_processors(where, 0.0)
    return where


def _set_other_processors(directory: Path, count: float) -> None:
    """Change a sweep's results to what a machine with so much other work would have written."""
    result = read_sweep(directory)
    assert result is not None
    assert result.speed is not None
    runs = {
        name: tuple(
            replace(run, conditions=replace(run.conditions, other_processors=count, throttled=None))
            for run in of_variant
            if run.conditions
        )
        for name, of_variant in result.speed.runs.items()
    }
    write_sweep(replace(result, speed=replace(result.speed, runs=runs)), directory)


def test_every_recipe_is_a_row(swept: Path) -> None:
    result = read_sweep(swept)
    assert result is not None
    assert list(result.rows) == ["fp32", *NAMES]
    rows = result.measured
    assert rows["onnx-int8"].weight_bytes < 0.3 * rows["fp32"].weight_bytes
    assert len(rows["onnx-int8"].texts["smoke"]) == LIMIT
    assert rows["onnx-int8"].comparison["smoke"].utterances == LIMIT
    assert rows["onnx-int8"].gate.verdict == "not judged"  # on synthetic speech
    assert rows["quanto-int2"].collapsed
    assert len(rows["quanto-int2"].texts["smoke"]) < LIMIT
    failed = result.rows["pytorch-int8-static"]
    assert isinstance(failed, FailedRow)
    assert "dev-clean" in failed.error
    runs = result.speed.runs
    assert set(runs) == {"fp32", "onnx-int8"}
    assert all(len(of_variant) == 1 for of_variant in runs.values())


def test_what_is_done_is_not_done_again(swept: Path, run: Run) -> None:
    before = read_sweep(swept)
    again = run(
        "sweep", "--model=whisper-tiny.en", "--recipe=onnx-int8", "--recipe=quanto-int2",
        "--limit", LIMIT, "--rounds=1", "--output", swept,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert "\n0 of 2 recipes to do" in again.stderr
    assert "recipe 1 of" not in again.stderr
    assert "round 1 of 1" not in again.stderr
    after = read_sweep(swept)
    assert before is not None
    assert after is not None
    assert after.speed == before.speed
    assert {name: after.rows[name] for name in NAMES} == {name: before.rows[name] for name in NAMES}


def test_another_sweep_is_not_written_over(swept: Path, run: Run, tmp_path: Path) -> None:
    content = (swept / "results.json").read_bytes()
    sweep_of = ("sweep", "--model=whisper-tiny.en", "--recipe=onnx-int8", "--limit=3", "--output")
    other = run(*sweep_of, swept)
    assert other.returncode == 8
    assert "another utterances" in other.stderr
    assert (swept / "results.json").read_bytes() == content
    (tmp_path / "results.json").write_text("{")
    damaged = run(*sweep_of, tmp_path)
    assert damaged.returncode == 8
    assert (tmp_path / "results.json").read_text() == "{"


def test_names_are_not_shared(workspace: Workspace, tiny_en: Checkpoint, tmp_path: Path) -> None:
    bf16 = find_recipe("bf16")
    for recipes in ([bf16, bf16], [replace(bf16, name="fp32")]):
        plan = sweeps.Plan(
            workspace,
            tiny_en,
            recipes,
            EvaluationOptions(datasets.find_dataset(workspace), LIMIT),
            rounds=0,
        )
        with pytest.raises(RecipeError, match="Rename one"):
            sweeps.sweep(plan, tmp_path)


def test_a_recipe_of_ones_own_is_not_taken_for_the_baseline(
    run: Run, tiny_en: Checkpoint, tmp_path: Path
) -> None:
    own = tmp_path / "own.toml"
    shipped = (files("edgewhisper.recipes") / "bf16.toml").read_text()
    own.write_text(shipped.replace('name = "bf16"', 'name = "fp32"'))
    result = run("sweep", "--model=tiny.en", "--recipe", own, "--output", tmp_path / "out")
    assert result.returncode != 0
    assert "Rename one" in result.stderr


def test_it_can_be_scored_again(swept: Path, run: Run, tmp_path: Path) -> None:
    scored = run("score", swept / "results.json")
    assert scored.returncode == 0, scored.stderr
    assert scored.stdout.strip() == (swept / "table.md").read_text().strip()
    content = json.loads((swept / "results.json").read_text())
    changed = tmp_path / "results.json"
    for name in ("fp32", "onnx-int8"):
        other = copy.deepcopy(content)
        other["rows"][name]["summary"]["smoke"]["wer"] += 0.5
        changed.write_text(json.dumps(other))
        assert run("score", changed).returncode == 8


def test_a_time_is_shown_of_what_it_was_taken_of(swept: Path) -> None:
    result = read_sweep(swept)
    assert result is not None
    assert result.rtf("onnx-int8") is not None
    row = result.measured["onnx-int8"]
    other = replace(row, files=row.files | {"encoder.onnx": "another"})
    result = replace(result, rows=result.rows | {"onnx-int8": other})
    assert result.rtf("onnx-int8") is None
    assert result.rtf("fp32") is not None


def test_runs_on_a_busy_machine_do_not_rank(swept: Path, tmp_path: Path) -> None:
    shutil.copy(swept / "results.json", tmp_path)
    _set_other_processors(tmp_path, float(os.cpu_count() or 1))
    result = read_sweep(tmp_path)
    assert result is not None
    assert result.runs("onnx-int8")
    assert result.rtf("onnx-int8") is None
    assert result.peak_rss_bytes("onnx-int8") is not None
    table = (tmp_path / "table.md").read_text()
    assert table.count("| machine busy |") == 2
    assert "2 runs while the machine was busy with other work do not count." in table


def test_the_plot_shows_every_library_and_is_reproducible(swept: Path) -> None:
    from edgewhisper.reports.matrix import to_plot

    result = read_sweep(swept)
    assert result is not None
    plot = (swept / "pareto.svg").read_text()
    assert plot == to_plot(result)
    for word in ("pytorch", "edgewhisper", "Pareto front", "real-time factor", "weights, MB"):
        assert f">{word}<" in plot


def test_a_crash_is_a_row_too(
    swept: Path,
    workspace: Workspace,
    tiny_en: Checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A library that takes its process down, as one without memory is taken down."""
    plan = sweeps.Plan(
        workspace,
        tiny_en,
        [replace(find_recipe("edgewhisper-int8"), name="starved"), find_recipe("onnx-int8")],
        EvaluationOptions(datasets.find_dataset(workspace), LIMIT),
        rounds=0,
    )
    monkeypatch.setattr(sweeps, "_evaluate", _die)
    rows = sweeps.sweep(plan, tmp_path).rows
    assert "its process died" in rows["starved"].error
    assert rows["onnx-int8"].gate is not None


def _die(*arguments: object, **options: object) -> None:
    os.abort()


def test_a_killed_sweep_ends_whole_and_is_taken_up_again(
    swept: Path, run: Run, home: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "own.toml"
    shipped = files("edgewhisper.recipes").joinpath("onnx-int8.toml").read_text()
    recipe.write_text(shipped.replace('"onnx-int8"', '"own"'))
    arguments = ["sweep", "--model=whisper-tiny.en", f"--recipe={recipe}", "--rounds=0"]
    arguments += ["--limit", str(LIMIT), "--output", str(tmp_path / "out")]
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "edgewhisper"), *arguments],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    kept = home / "evaluations"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not list(kept.glob("*-own-*/*.jsonl")):
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert not psutil.wait_procs(children, timeout=30)[1]
    (records,) = kept.glob("*-own-*/*.jsonl")
    before = records.read_bytes()
    assert 0 < before.count(b"\n") < LIMIT
    again = run(*arguments)
    assert again.returncode == 0, again.stderr
    assert records.read_bytes().startswith(before)
    assert records.read_bytes().count(b"\n") == LIMIT


def test_an_ablation_takes_one_part_at_a_time() -> None:
    alone = {r.name: r for r in find_recipe("quanto-int4").one_part_at_a_time()}
    assert alone["quanto-int4.encoder.fc2"].scope == ("encoder.fc2",)
    assert set(alone["quanto-int4.decoder"].scope) == {
        "decoder.qkv", "decoder.cross_kv", "decoder.out_proj", "decoder.fc1", "decoder.fc2",
    }  # fmt: skip
    assert len(alone) == 12
    mixed = {r.name: r for r in find_recipe("hqq-mixed").one_part_at_a_time()}
    assert mixed["hqq-mixed.decoder.fc1"].weights_of("decoder.fc1").dtype == "int8"
    assert mixed["hqq-mixed.decoder.fc2"].overrides == ()
    shared = {r.name: r for r in find_recipe("edgewhisper-int4").one_part_at_a_time()}
    assert shared["edgewhisper-int4.output"].scope == ("output", "embedding")
    assert shared["edgewhisper-int4.output"].weights_of("embedding") == Weights(
        "int8", "symmetric", "per-channel"
    )


def test_ablate_on_the_command_line(run: Run, tiny_en: Checkpoint, tmp_path: Path) -> None:
    recipe = tmp_path / "own.toml"
    recipe.write_text(
        'name = "own"\nsummary = "s"\nlibrary = "quanto"\nscheme = "dynamic"\n'
        'scope = ["decoder.fc1"]\nmax_wer_increase = 1\n'
        '[weights]\ndtype = "int8"\nmethod = "symmetric"\ngranularity = "per-channel"\n'
    )
    done = run(
        "ablate", "--model=whisper-tiny.en", "--recipe", recipe, "--limit=3",
        "--output", tmp_path, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert list(rows) == ["fp32", "own.decoder.fc1"]
    part = rows["own.decoder.fc1"]
    assert {row["part"] for row in part["census"] if row["quantized"]} == {"decoder.fc1"}
    assert "interval" in part["comparison"]["smoke"]
    assert "real-time factor" not in (tmp_path / "pareto.svg").read_text()


def test_what_quantizes_nothing_cannot_be_ablated() -> None:
    with pytest.raises(RecipeError, match="quantizes no part"):
        find_recipe("bf16").one_part_at_a_time()


def test_the_pareto_front() -> None:
    points = {"a": (1.0, 9.0), "b": (2.0, 5.0), "c": (3.0, 6.0), "d": (4.0, 5.0), "e": (5.0, 1.0)}
    assert pareto(points) == ["a", "b", "e"]
