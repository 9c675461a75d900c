"""A sweep compares alike, resumes, outlives failing recipes, and can be scored again."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from conftest import Run
from edgewhisper import sweep
from edgewhisper.checkpoints import Checkpoint
from edgewhisper.evaluation import librispeech
from edgewhisper.evaluation.run import Options
from edgewhisper.recipes import Recipe, find_recipe
from edgewhisper.recipes.schema import Weights
from edgewhisper.reports import read_sweep
from edgewhisper.reports.matrix import pareto
from edgewhisper_runtime.errors import RecipeError

NAMES = ("bf16", "quanto-int8", "hqq-int1-g64", "pytorch-int8-static")


@pytest.fixture(scope="module")
def swept(run: Run, tiny_en: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep over recipes that work, collapse, and fail for lack of calibration data."""
    where = tmp_path_factory.mktemp("sweep")
    recipes = [f"--recipe={name}" for name in NAMES]
    result = run(
        "sweep", "--model=whisper-tiny.en", *recipes, "--limit=16", "--rounds=1", "--output", where
    )
    assert result.returncode == 0, result.stderr
    assert "4 of 4 recipes to do, 16 utterances each: about 0 h" in result.stderr
    assert result.stdout.startswith("| recipe | scheme | scope | MB | WER % smoke |")
    return where


def test_every_recipe_is_a_row(swept: Path) -> None:
    result = read_sweep(swept)
    assert result is not None
    rows = result["rows"]
    assert list(rows) == ["fp32", *NAMES]
    assert rows["bf16"]["weight_bytes"] / rows["fp32"]["weight_bytes"] == pytest.approx(
        0.5, rel=0.01
    )
    assert len(rows["quanto-int8"]["texts"]["smoke"]) == 16
    assert rows["quanto-int8"]["comparison"]["smoke"]["utterances"] == 16
    assert rows["quanto-int8"]["gate"]["verdict"] in {"passed", "not proven"}
    assert rows["hqq-int1-g64"]["collapsed"]
    assert len(rows["hqq-int1-g64"]["texts"]["smoke"]) < 16
    assert "dev-clean" in rows["pytorch-int8-static"]["error"]
    runs = result["speed"]["runs"]
    assert set(runs) == {"fp32", "bf16", "quanto-int8"}
    assert all(len(of_variant) == 1 for of_variant in runs.values())


def test_what_is_done_is_not_done_again(swept: Path, run: Run) -> None:
    before = read_sweep(swept)
    again = run(
        "sweep", "--model=whisper-tiny.en", "--recipe=bf16", "--recipe=hqq-int1-g64", "--limit=16",
        "--rounds=1", "--output", swept,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert "\n0 of 2 recipes to do" in again.stderr
    assert "quantizing" not in again.stderr
    assert "round 1 of 1" not in again.stderr
    after = read_sweep(swept)
    assert before is not None
    assert after is not None
    assert after["speed"] == before["speed"]
    assert {name: after["rows"][name] for name in NAMES} == {
        name: before["rows"][name] for name in NAMES
    }


def test_another_sweep_is_not_written_over(swept: Path, run: Run, tmp_path: Path) -> None:
    content = (swept / "results.json").read_bytes()
    other = run("sweep", "--model=whisper-tiny.en", "--recipe=bf16", "--limit=2", "--output", swept)
    assert other.returncode == 8
    assert "another utterances" in other.stderr
    assert (swept / "results.json").read_bytes() == content
    (tmp_path / "results.json").write_text("{")
    damaged = run("sweep", "--model=whisper-tiny.en", "--recipe=bf16", "--output", tmp_path)
    assert damaged.returncode == 8
    assert (tmp_path / "results.json").read_text() == "{"


def test_names_are_not_shared(tiny_en: Checkpoint, tmp_path: Path) -> None:
    bf16 = find_recipe("bf16")
    for recipes in ([bf16, bf16], [replace(bf16, name="fp32")]):
        plan = sweep.Plan(tiny_en, recipes, Options(librispeech.find(), limit=2), rounds=0)
        with pytest.raises(RecipeError, match="Rename one"):
            sweep.sweep(plan, tmp_path)


def test_it_can_be_scored_again(swept: Path, run: Run, tmp_path: Path) -> None:
    scored = run("score", swept / "results.json")
    assert scored.returncode == 0, scored.stderr
    assert scored.stdout.strip() == (swept / "table.md").read_text().strip()
    content = json.loads((swept / "results.json").read_text())
    changed = tmp_path / "results.json"
    for name in ("fp32", "bf16"):
        other = copy.deepcopy(content)
        other["rows"][name]["summary"]["smoke"]["wer"] += 0.5
        changed.write_text(json.dumps(other))
        assert run("score", changed).returncode == 8


def test_the_plot_shows_every_library_and_is_reproducible(swept: Path) -> None:
    from edgewhisper.reports.matrix import to_plot

    result = read_sweep(swept)
    assert result is not None
    plot = (swept / "pareto.svg").read_text()
    assert plot == to_plot(result)
    for word in ("pytorch", "quanto", "Pareto front", "real-time factor", "weights, MB"):
        assert f">{word}<" in plot


def test_a_crash_is_a_row_too(
    tiny_en: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library that takes its process down, as one without memory is taken down."""
    plan = sweep.Plan(
        tiny_en,
        [replace(find_recipe("edgewhisper-int8"), name="starved"), find_recipe("bf16")],
        Options(librispeech.find(), limit=2),
        rounds=0,
    )
    monkeypatch.setattr(sweep, "_evaluate", _die_if_starved)
    rows = sweep.sweep(plan, tmp_path)["rows"]
    assert "its process died" in rows["starved"]["error"]
    assert "gate" in rows["bf16"]


_evaluate = sweep._evaluate


def _die_if_starved(checkpoint: Checkpoint, recipe: Recipe, *rest: object) -> None:
    if recipe.name == "starved":
        os.abort()
    _evaluate(checkpoint, recipe, *rest)  # type: ignore[arg-type]


def test_a_killed_sweep_ends_whole_and_is_taken_up_again(
    run: Run, tiny_en: Checkpoint, tmp_path: Path
) -> None:
    arguments = ["sweep", "--model=whisper-tiny.en", "--recipe=quanto-int8", "--rounds=0"]
    arguments += ["--output", str(tmp_path / "out")]
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "edgewhisper"), *arguments],
        env=os.environ | {"EDGEWHISPER_HOME": str(tmp_path)},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    kept = tmp_path / "evaluations"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not list(kept.glob("*quanto-int8*/*.jsonl")):
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert not psutil.wait_procs(children, timeout=30)[1]
    (records,) = kept.glob("*quanto-int8*/*.jsonl")
    before = records.read_bytes()
    assert 0 < before.count(b"\n") < 24
    again = run(*arguments, env_home=tmp_path)
    assert again.returncode == 0, again.stderr
    assert records.read_bytes().startswith(before)
    assert records.read_bytes().count(b"\n") == 24


def test_an_ablation_takes_one_part_at_a_time() -> None:
    alone = {r.name: r for r in find_recipe("quanto-int4").one_part_at_a_time()}
    assert alone["quanto-int4.encoder.fc2"].scope == ("encoder.fc2",)
    assert set(alone["quanto-int4.decoder"].scope) == {
        "decoder.attention", "decoder.fc1", "decoder.fc2",
    }  # fmt: skip
    assert len(alone) == 9
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
        'scope = ["decoder.feed_forward"]\nmax_wer_increase = 1\n'
        '[weights]\ndtype = "int8"\nmethod = "symmetric"\ngranularity = "per-channel"\n'
    )
    done = run(
        "ablate", "--model=whisper-tiny.en", "--recipe", recipe, "--limit=2",
        "--output", tmp_path, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert list(rows) == ["fp32", "own.decoder.fc1", "own.decoder.fc2", "own.decoder"]
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
