"""Tuning finds the best bundle within limits, tells why others were not chosen, and goes on."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest

from conftest import Run
from edgewhisper import api
from edgewhisper.checkpoints import Checkpoint
from edgewhisper.evaluation import datasets
from edgewhisper.evaluation.options import EvaluationOptions
from edgewhisper.reports.tuning import Limits, TuningResult
from edgewhisper.workspace import Workspace
from edgewhisper_runtime import bundle
from edgewhisper_runtime.errors import RecipeError

RECIPES = ("--recipe=onnx-int8", "--recipe=onnx-int4", "--recipe=bf16")
TUNE = ("tune", "--model=whisper-tiny.en", "--rounds=1")


@pytest.fixture(scope="module")
def few(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of six test utterances and four of development."""
    where = tmp_path_factory.mktemp("few")
    for split, source, count in (("test", "test-other", 6), ("dev", "dev-clean", 4)):
        chapters = sorted((data / "LibriSpeech" / source).glob("*/*/*.trans.txt"))
        lines = []
        for chapter in chapters[:count]:
            name, _, text = chapter.read_text().splitlines()[0].partition(" ")
            audio = str(chapter.parent / f"{name}.flac")
            lines.append(json.dumps({"audio_filepath": audio, "text": text, "speaker": name[:4]}))
        (where / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return where


@pytest.fixture(scope="module")
def tuned(
    run: Run, few: Path, tiny_en: Checkpoint, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The results of recipes that are not usable, too large, and chosen."""
    where = tmp_path_factory.mktemp("tuned")
    result = run(
        *TUNE, *RECIPES, "--data", few, "--max-size=30MB", "--max-wer-increase=80",
        "--prefer=size", "--output", where,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    table = (where / "table.md").read_text().strip()
    assert result.stdout.strip() == f"{table}\nbundle: {where / 'whisper-tiny.en-onnx-int4'}"
    return where


def read(where: Path) -> TuningResult:
    result = TuningResult.read(where)
    assert result is not None
    return result


def test_the_best_within_the_limits_is_installed(tuned: Path) -> None:
    result = read(tuned)
    assert result.chosen == "onnx-int4"
    assert result.limits == Limits(80, 30_000_000)
    assert result.screened_on == 4
    manifest = bundle.verify(tuned / "whisper-tiny.en-onnx-int4")
    assert manifest.evaluation is not None
    assert manifest.evaluation.verdict == "passed"
    chosen = result.candidates["onnx-int4"]
    assert chosen.gate is not None
    assert chosen.gate.max_wer_increase == 80
    assert chosen.audio_context == manifest.audio_context
    assert chosen.weight_bytes == manifest.weight_bytes
    assert chosen.computed_bytes == pytest.approx(manifest.weight_bytes, rel=0.01)
    assert 1 in result.by_threads("onnx-int4")


def test_the_table_tells_why_the_others_were_not_chosen(tuned: Path) -> None:
    result = read(tuned)
    outcomes = {name: candidate.outcome for name, candidate in result.candidates.items()}
    assert outcomes == {"onnx-int8": "too large", "onnx-int4": "chosen", "bf16": "not usable"}
    rows = (tuned / "table.md").read_text().splitlines()[2:5]
    assert [row.split(" | ")[0] for row in rows] == ["| onnx-int4", "| onnx-int8", "| bf16"]
    assert "the gate passed: WER changed by" in rows[0]
    assert rows[1].endswith("| too large | 38.9 MB computed, more than 30 MB |")
    assert "no bfloat16 kernels" in rows[2]
    plot = (tuned / "pareto.svg").read_text()
    assert all(f">{label}<" in plot for label in ("onnx-int4", "weights, MB", "real-time factor"))


def test_nothing_is_done_twice(tuned: Path, run: Run, few: Path, home: Path) -> None:
    before = read(tuned)
    texts = {path: path.read_bytes() for path in home.glob("evaluations/*/*")}
    again = run(
        *TUNE, *RECIPES, "--data", few, "--max-size=30MB", "--max-wer-increase=80",
        "--prefer=size", "--output", tuned,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert {path: path.read_bytes() for path in home.glob("evaluations/*/*")} == texts
    after = read(tuned)
    assert after.candidates == before.candidates
    for earlier, later in (
        (before.speed, after.speed),
        *zip(before.settings, after.settings, strict=True),
    ):
        assert earlier is not None
        assert later is not None
        kept = earlier.runs["onnx-int4"]  # runs while the machine was busy are repeated
        assert later.runs["onnx-int4"][: len(kept)] == kept


def test_a_gate_that_none_passes(tuned: Path, run: Run, few: Path, tmp_path: Path) -> None:
    result = run(
        *TUNE, *RECIPES, "--data", few, "--max-size=30MB", "--max-wer-increase=1.5",
        "--output", tmp_path,
    )  # fmt: skip
    assert result.returncode == 10, result.stderr
    assert "onnx-int4 came closest: the gate could not prove the increase" in result.stderr
    assert re.search(r"(About \d+ utterances|No amount of data).* would settle it", result.stderr)
    assert not list(tmp_path.glob("whisper*"))
    assert read(tmp_path).candidates["onnx-int4"].outcome == "gate not passed"


def test_what_is_useless_fails_the_screening(run: Run, data: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "coarse.toml"
    shipped = (files("edgewhisper.recipes") / "edgewhisper-int4-all.toml").read_text()
    recipe.write_text(shipped.replace("int4", "int2").replace("searched", "nearest"))
    result = run(
        *TUNE, "--recipe", recipe, "--librispeech", data / "LibriSpeech", "--limit=2",
        "--max-wer-increase=0.5", "--output", tmp_path,
    )  # fmt: skip
    assert result.returncode == 9, result.stderr
    assert "came closest: on 12 development utterances the gate failed" in result.stderr
    assert read(tmp_path).speed is None or not read(tmp_path).speed.runs


def test_speed_and_memory_are_limits(
    workspace: Workspace, tiny_en: Checkpoint, tmp_path: Path
) -> None:
    options = EvaluationOptions(datasets.find_dataset(workspace), 3)
    for limits, outcome, words in (
        (Limits(0.5, max_rtf=1e-6), "too slow", "real-time factor .* more than 1e-06"),
        (Limits(0.5, max_rss_bytes=10**6), "too much memory", "peak memory .* more than 1 MB"),
    ):
        with pytest.raises(RecipeError, match=f"onnx-int8 came closest: {words}"):
            api.tune(
                "whisper-tiny.en", limits, options, recipes=["onnx-int8"], rounds=1,
                output=tmp_path, workspace=workspace,
            )  # fmt: skip
        assert read(tmp_path).candidates["onnx-int8"].outcome == outcome


def test_the_most_accurate_of_all(workspace: Workspace, tiny_en: Checkpoint) -> None:
    """On synthetic speech, which proves and refuses nothing."""
    options = EvaluationOptions(datasets.find_dataset(workspace), 3)
    tuned = api.tune(
        "whisper-tiny.en", Limits(0.5), options, recipes=["onnx-int4", "onnx-int8"],
        prefer="accuracy", rounds=1, workspace=workspace,
    )  # fmt: skip
    candidates = tuned.result.candidates
    rates = {name: c.gate.overall.d for name, c in candidates.items()}
    assert tuned.result.chosen == min(rates, key=rates.__getitem__)
    assert tuned.report.gate.verdict == "not judged"
    assert tuned.bundle.path.parent == workspace.bundles
    assert {c.outcome for c in candidates.values()} == {"chosen", "not needed"}


def test_the_fastest_is_that_of_all_as_they_ship(run: Run, few: Path, tmp_path: Path) -> None:
    """Candidates are timed in adaptive context, which on six utterances nothing ships in."""
    result = run(
        *TUNE, "--recipe=onnx-int8", "--recipe=onnx-int4", "--recipe=onnx-int8-weights", "--data",
        few, "--max-wer-increase=80", "--prefer=speed", "--output", tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    tuned = read(tmp_path)
    figures = {}
    for name, candidate in tuned.candidates.items():
        figures[name] = tuned.rtf(name)
        if candidate.audio_context == "full" and (shipped := tuned.by_threads(name)):
            figures[name] = min(rtf for rtf, _ in shipped.values())
    assert tuned.chosen == min(figures, key=figures.__getitem__)


@pytest.mark.parametrize("size", ["80", "80 apples", "0MB", "-1MB", "MB"])
def test_a_size_that_is_none(run: Run, size: str) -> None:
    result = run(*TUNE, f"--max-size={size}")
    assert result.returncode == 2
    assert "is not a size such as 80MB" in result.stderr


def test_names_are_not_shared(run: Run, tiny_en: Checkpoint, tmp_path: Path) -> None:
    """Else one of two recipes would be left out, and nothing would tell."""
    own = tmp_path / "own.toml"
    shipped = files("edgewhisper.recipes")
    for name, recipes in (
        ("onnx-int4", ["onnx-int4", own]),
        ("fp32", [own]),
    ):
        text = (shipped / "onnx-int8.toml").read_text()
        own.write_text(text.replace('name = "onnx-int8"', f'name = "{name}"'))
        result = run(*TUNE, *(f"--recipe={each}" for each in recipes), "--output", tmp_path)
        assert result.returncode == 5, result.stderr
        assert f"two recipes are called {name}" in result.stderr


def test_another_file_is_not_written_over(run: Run, tiny_en: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "tune.json").write_text("{")
    result = run(*TUNE, "--recipe=onnx-int8", "--output", tmp_path)
    assert result.returncode == 8
    assert (tmp_path / "tune.json").read_text() == "{"
