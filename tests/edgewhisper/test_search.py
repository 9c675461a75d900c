"""A search measures what each part loses in fewer bits, and chooses the best that fits."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import pytest

from conftest import Run
from edgewhisper import search
from edgewhisper.checkpoints import Checkpoint
from edgewhisper.recipes import find_recipe
from edgewhisper.recipes.sizes import exported_bytes
from edgewhisper.reports.tuning import TuningResult
from edgewhisper.search import Option, Search
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.errors import DataError

LIMIT = 30_000_000
WEIGHTS = find_recipe("onnx-int8").weights


def copied(data: Path, target: Path, counts: dict[str, int]) -> Path:
    """Make a LibriSpeech of the first utterances of some chapters: so many of each split."""
    for split, count in counts.items():
        chapters = sorted((data / "LibriSpeech" / split).glob("*/*/*.trans.txt"))
        for chapter in chapters[:count]:
            line = chapter.read_text().splitlines()[0]
            directory = target / chapter.parent.relative_to(data / "LibriSpeech")
            directory.mkdir(parents=True)
            (directory / chapter.name).write_text(f"{line}\n")
            audio = f"{line.split()[0]}.flac"
            (directory / audio).symlink_to(chapter.parent / audio)
    return target


@pytest.fixture(scope="module")
def librispeech(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two utterances to calibrate on, two to measure losses on, and four of a test split."""
    where = tmp_path_factory.mktemp("speech")
    return copied(data, where, {"dev-clean": 4, "test-other": 4})


@pytest.fixture(scope="module")
def searched(workspace: Workspace, tiny_en: Checkpoint, librispeech: Path) -> Search:
    return search.search(workspace, tiny_en, librispeech, LIMIT, 0.5)


def options(seed: int) -> list[list[Option]]:
    """Return five parts with four formats each, some of which others beat."""
    draws = random.Random(seed)
    return [
        [Option(WEIGHTS, draws.randint(1, 40), draws.random()) for _ in range(4)] for _ in range(5)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_the_choice_is_the_best_of_all(seed: int) -> None:
    parts = options(seed)
    for limit in range(20, 180, 20):
        fitting = [
            sum(option.loss for option in choice)
            for choice in itertools.product(*parts)
            if sum(option.weight_bytes for option in choice) <= limit
        ]
        if not fitting:
            with pytest.raises(ValueError, match=f"at most {limit} bytes"):
                search.choose(parts, limit)
            continue
        chosen = search.choose(parts, limit)
        assert all(option in part for option, part in zip(chosen, parts, strict=True))
        assert sum(option.weight_bytes for option in chosen) <= limit
        assert sum(option.loss for option in chosen) == pytest.approx(min(fitting))


def test_a_tighter_limit_is_neither_larger_nor_less_lossy(searched: Search) -> None:
    parts = [part.options for part in searched.sensitivities]
    limits = range(sum(min(o.weight_bytes for o in of) for of in parts), LIMIT, 500_000)
    chosen = [search.choose(parts, limit) for limit in limits]
    sizes = [sum(option.weight_bytes for option in choice) for choice in chosen]
    losses = [sum(option.loss for option in choice) for choice in chosen]
    assert len(set(sizes)) > 10
    assert sizes == sorted(sizes)
    assert losses == sorted(losses, reverse=True)


def test_parts_lose_more_in_fewer_bits(searched: Search) -> None:
    assert {part for each in searched.sensitivities for part in each.scope} == {
        *find_recipe("onnx-int8").scope
    }
    for part in searched.sensitivities:
        losses = {option.weights.dtype: option.loss for option in part.options}
        assert all(loss > 0 for loss in losses.values()), part.scope
        if len(losses) > 1:
            assert losses["int8"] < losses["int3"] < losses["int2"], part.scope
    assert len(searched.calibrated_on) == len(searched.measured_on) == 2
    assert not set(searched.calibrated_on) & set(searched.measured_on)


def test_the_recipe_fits_and_loses_about_what_its_parts_lose(
    searched: Search, tiny_en: Checkpoint
) -> None:
    recipe = searched.recipe
    assert recipe.name == "searched-30MB"
    assert 0.95 * LIMIT < exported_bytes(tiny_en.config(), recipe) < 0.99 * LIMIT
    for part in searched.sensitivities:
        assert {recipe.weights_of(name) for name in part.scope} == {part.chosen.weights}
    assert 0.3 * searched.sum_of_losses < searched.loss < 3 * searched.sum_of_losses


def test_the_file_is_the_recipe_with_its_reasons(searched: Search, tmp_path: Path) -> None:
    path = tmp_path / "searched.toml"
    path.write_text(search.to_toml(searched, "edgewhisper tune --search"))
    assert find_recipe(str(path)) == searched.recipe
    comments = [line[2:] for line in path.read_text().splitlines() if line.startswith("# ")]
    table = comments[: len(searched.sensitivities) + 2]
    assert table == search.to_table(searched).splitlines()
    assert [line.count("*") for line in table] == [0, 0, *[1] * len(searched.sensitivities)]
    assert "Written by `edgewhisper tune --search`." in " ".join(comments)


def test_a_limit_that_needs_no_fewer_bits(
    searched: Search, workspace: Workspace, tiny_en: Checkpoint, librispeech: Path, tmp_path: Path
) -> None:
    losses = [part.options[0].loss for part in searched.sensitivities]
    whole = search.search(workspace, tiny_en, librispeech, 60_000_000, 0.5)
    assert whole.sum_of_losses <= sum(losses)
    path = tmp_path / "searched.toml"
    path.write_text(search.to_toml(whole, "edgewhisper tune --search"))
    assert find_recipe(str(path)) == whole.recipe


def test_an_interrupted_search_goes_on(
    tiny_en: Checkpoint, librispeech: Path, tmp_path: Path
) -> None:
    tasks: list[str] = []

    def stop_after(count: int) -> None:
        def progress(task: str, done: int, _total: int) -> None:
            tasks.append(task)
            if task.startswith("losses") and done == count:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            search.search(workspace, tiny_en, librispeech, LIMIT, 0.5, progress)

    workspace = Workspace(tmp_path)
    stop_after(2)
    (path,) = tmp_path.glob("evaluations/*/losses.json")
    before = json.loads(path.read_text())
    assert len(before) == 2
    assert "calibrating" in tasks
    tasks.clear()
    stop_after(2)
    assert "calibrating" not in tasks
    assert json.loads(path.read_text()) == before


def test_a_searched_recipe_is_a_candidate(
    searched: Search, run: Run, librispeech: Path, tmp_path: Path
) -> None:
    result = run(
        "tune", "--model=whisper-tiny.en", "--search", "--max-size=30MB", "--recipe=onnx-int8",
        "--librispeech", librispeech, "--max-wer-increase=80", "--rounds=1", "--output", tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "calibrating" not in result.stderr.partition("quantizing")[0]  # losses are kept
    tuned = TuningResult.read(tmp_path)
    assert tuned is not None
    assert tuned.search is not None
    assert tuned.search.sensitivities == searched.sensitivities
    assert tuned.chosen == "searched-30MB"
    chosen = tuned.candidates["searched-30MB"]
    assert chosen.recipe == find_recipe(str(tmp_path / "searched-30MB.toml"))
    assert chosen.weight_bytes is not None
    assert 0.95 * LIMIT < chosen.weight_bytes <= LIMIT
    assert search.to_table(searched) in (tmp_path / "table.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        ((), 2, "'--search' changes nothing without --max-size"),
        (("--max-size=5MB",), 5, "with the smallest format of each part it has"),
        (("--max-size=30MB",), 8, "edgewhisper data librispeech --split dev-clean"),
    ],
)
def test_what_cannot_be_searched(
    run: Run, tiny_en: Checkpoint, tmp_path: Path, arguments: tuple[str, ...], exit_code: int,
    message: str,
) -> None:  # fmt: skip
    result = run(
        "tune", "--model=whisper-tiny.en", "--search", *arguments, "--output", tmp_path / "out"
    )
    assert result.returncode == exit_code, result.stderr
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()[-1]) < 400


def test_one_utterance_is_too_few(
    workspace: Workspace, tiny_en: Checkpoint, data: Path, tmp_path: Path
) -> None:
    root = copied(data, tmp_path, {"dev-clean": 1})
    with pytest.raises(DataError, match="a search needs two"):
        search.search(workspace, tiny_en, root, LIMIT, 0.5)
