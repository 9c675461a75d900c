"""Many recipes on one checkpoint: evaluated alike, compared with one baseline, timed in turns.

Resumable: evaluations are kept as everywhere, timings in the results. A recipe that fails takes
a row that says why.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from edgewhisper import pipeline, reports, speed
from edgewhisper.checkpoints import Checkpoint
from edgewhisper.evaluation import librispeech, run, wer
from edgewhisper.evaluation.batches import LANGUAGE
from edgewhisper.recipes import Recipe, find_recipe
from edgewhisper_runtime import bundle
from edgewhisper_runtime.errors import DataError, EdgeWhisperError, RecipeError
from edgewhisper_runtime.measure import machine

COLLAPSED = 50.0  # points of WER lost for certain: no longer a question of degree
_SLOWEST = 3  # times as slow as float32: what unpacks its weights at every decoder step
Records = dict[str, list[wer.Record]]


@dataclass(frozen=True)
class Plan:
    """What to sweep; `rounds` is how often each variant's speed is measured, in turns."""

    checkpoint: Checkpoint
    recipes: Sequence[Recipe]
    options: run.Options
    rounds: int
    command: str = ""


def sweep(plan: Plan, output: Path) -> dict[str, Any]:
    """Evaluate every recipe, measure every speed; write results, table and plot into `output`.

    They are written again after each recipe, so an interrupted sweep shows what is done. What
    `output` holds of an earlier sweep of the same model and utterances is kept: rows of other
    recipes as they are, rows of these where the same would be made now. Raises DataError when
    it holds something else, EdgeWhisperError for what else concerns all recipes.
    """
    _check_names(plan.recipes)
    earlier = reports.read_sweep(output)
    baseline = pipeline.stage(plan.checkpoint, find_recipe("fp32"))
    kept = {name: row for name, row in (earlier or {"rows": {}})["rows"].items() if name != "fp32"}
    left = [recipe for recipe in plan.recipes if not _same(plan, recipe, kept.get(recipe.name))]
    estimate = _Estimate(plan, left)
    expected = run.evaluate(baseline, plan.options, estimate.after_first_batch)
    estimate.after_first_batch("", next(iter(expected.values())))
    result = _header(plan, expected)
    result["rows"] = {"fp32": _row(baseline, expected), **kept}
    result["speed"] = earlier and earlier["speed"]
    if earlier is not None:
        _check_comparable(earlier, result, output)
    for number, recipe in enumerate(left, 1):
        pipeline.say(f"recipe {number} of {len(left)}: {recipe.name}")
        try:
            variant, found = _evaluated(plan, recipe, expected)
            row = _row(variant, found) | _judged(found, expected, recipe.max_wer_increase)
            result["rows"][recipe.name] = row
        except EdgeWhisperError as error:
            pipeline.say(f"{recipe.name} failed: {error}")
            result["rows"][recipe.name] = {"recipe": asdict(recipe), "error": str(error)}
        reports.write_sweep(result, output)
    result["rows"] = rescore(result)
    reports.write_sweep(result, output)
    if plan.rounds:
        _measure_speed(plan, result, output)
    return result


def rescore(result: dict[str, Any]) -> dict[str, Any]:
    """Return a sweep's rows with every figure of WER computed again from the raw texts in it."""
    expected = _records(result, "fp32")
    rows = {}
    for name, row in result["rows"].items():
        rows[name] = dict(row)
        if name == "fp32":
            rows[name]["summary"] = {split: _summary(rs) for split, rs in expected.items()}
        elif "error" not in row:
            limit = row["recipe"]["max_wer_increase"]
            rows[name] |= _judged(_records(result, name), expected, limit)
    return rows


def _check_names(recipes: Sequence[Recipe]) -> None:
    """Raise RecipeError unless each recipe has a name of its own, and one that fits a file."""
    names = [recipe.name for recipe in recipes]
    for recipe in recipes:
        if names.count(recipe.name) > 1 or recipe.name == "fp32":
            raise RecipeError(
                f"two recipes are called {recipe.name}; the baseline is called fp32. Rename one."
            )
        Recipe.from_dict(asdict(recipe), recipe.name)


def _check_comparable(earlier: dict[str, Any], result: dict[str, Any], output: Path) -> None:
    """Raise DataError unless earlier rows can stand beside new ones: same data, same baseline."""
    for key in ("model", "utterances", "device"):
        if earlier[key] != result[key]:
            raise DataError(
                f"{output} holds a sweep of another {key}. Name another directory with --output."
            )
    ours, theirs = (found["rows"]["fp32"] for found in (result, earlier))
    if any(ours[key] != theirs.get(key) for key in ("texts", "decoding")):
        raise DataError(
            f"{output} holds a sweep whose baseline gave other texts: other libraries, another "
            "processor, or another version. Name another directory with --output."
        )


def _same(plan: Plan, recipe: Recipe, row: dict[str, Any] | None) -> bool:
    """Tell whether a row has texts of what the recipe would make now."""
    if row is None or "texts" not in row:
        return False
    try:
        planned = pipeline.plan(plan.checkpoint, recipe, plan.options.dataset.root)
    except EdgeWhisperError:  # it will be said when its turn comes
        return False
    kept = (
        bundle.parse(bundle.RecipeRecord, row["recipe"]),
        bundle.parse(bundle.Settings, row["settings"]),
        row["libraries"],
        row["calibration"],
        row["decoding"],
    )
    return kept == (
        planned.recipe,
        planned.settings,
        planned.libraries,
        bundle.to_json(planned.calibration),
        run.decoding(planned),
    )


def _measure_speed(plan: Plan, result: dict[str, Any], output: Path) -> None:
    """Measure every variant that has not collapsed, and write the results after each time."""
    files = {
        name: row["files"]
        for name, row in result["rows"].items()
        if "error" not in row and not row.get("collapsed")
    }

    def variant(name: str) -> Path:
        recipe = Recipe.from_dict(result["rows"][name]["recipe"], name)
        return pipeline.artefact(plan.checkpoint, recipe, plan.options.dataset.root)

    for timed in speed.measure(files, variant, plan.options, plan.rounds, result["speed"]):
        result["speed"] = timed
        reports.write_sweep(result, output)


def _evaluated(plan: Plan, recipe: Recipe, expected: Records) -> tuple[Path, Records]:
    """Return a recipe's variant and its records, computing what is missing.

    Raises EdgeWhisperError, also where the process that computes dies.
    """
    speech = plan.options.dataset.root
    variant = pipeline.staged(plan.checkpoint, recipe, speech)
    if variant is not None:
        variant = pipeline.artefact(plan.checkpoint, recipe, speech)
    if variant is None or not _complete(run.recorded(variant, plan.options), expected):
        if plan.options.engine == "local":
            _in_own_process(plan.checkpoint, recipe, plan.options, expected)
        else:
            _evaluate(plan.checkpoint, recipe, plan.options, expected)
        variant = pipeline.artefact(plan.checkpoint, recipe, speech)
    return variant, run.recorded(variant, plan.options)


def _evaluate(
    checkpoint: Checkpoint, recipe: Recipe, options: run.Options, expected: Records
) -> None:
    """Stage and evaluate one recipe; its records are left on disk.

    Whatever a library raises becomes an EdgeWhisperError: it concerns this recipe only.
    """
    try:
        variant = pipeline.artefact(checkpoint, recipe, options.dataset.root)
        run.evaluate(variant, options, lambda split, found: _collapsed(found, expected[split]))
    except EdgeWhisperError:
        raise
    except Exception as error:
        raise EdgeWhisperError(f"{type(error).__name__}: {error}") from error


def _in_own_process(*arguments: Any) -> None:
    """Run `_evaluate` where its memory is given back, and where a crash ends nothing else."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_end_with_parent) as pool:
        try:
            pool.submit(_evaluate, *arguments).result()
        except BrokenProcessPool as error:
            raise EdgeWhisperError(
                "its process died, perhaps for lack of memory; what it said stands above."
            ) from error


def _end_with_parent() -> None:
    """Have this process end when the sweep does: a killed one must not compute on unseen."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _collapsed(found: list[wer.Record], expected: list[wer.Record]) -> bool:
    return wer.least_difference(expected, found) > COLLAPSED


def _complete(found: Records, expected: Records) -> bool:
    return all(
        len(found[split]) == len(of_split) or _collapsed(found[split], of_split)
        for split, of_split in expected.items()
    )


def _header(plan: Plan, expected: Records) -> dict[str, Any]:
    """Return a sweep's results without any row: what it was made of, and the references."""
    options = plan.options
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "edgewhisper": metadata.version("edgewhisper"),
        "command": plan.command,
        "model": {
            "name": plan.checkpoint.name,
            "source": plan.checkpoint.provenance,
            "weights": plan.checkpoint.weights,
        },
        "dataset": {
            "name": options.dataset.name,
            "synthetic": options.dataset.name == librispeech.SMOKE,
            "limit": options.limit,
            "seconds": {split: sum(r.duration for r in rs) for split, rs in expected.items()},
        },
        "device": options.device,
        "language": LANGUAGE,
        "machine": machine.describe(),
        "normalizer": wer.normalizer(),
        "utterances": {
            split: {
                record.id: {"speaker": record.speaker, "reference": record.reference,
                            "duration": record.duration}
                for record in of_split
            }
            for split, of_split in expected.items()
        },
        "rows": {},
    }  # fmt: skip


def _row(variant: Path, found: Records) -> dict[str, Any]:
    """Return what the results keep of a variant by itself: its make and its raw texts."""
    manifest = bundle.read_manifest(variant)
    return {
        "recipe": bundle.to_json(manifest.recipe),
        "weight_bytes": manifest.weight_bytes,
        "files": {name: file.sha256 for name, file in manifest.files.items()},
        "settings": bundle.to_json(manifest.settings),
        "decoding": run.decoding(manifest),
        "machine": machine.describe(),
        "census": bundle.to_json(manifest.census),
        "calibration": bundle.to_json(manifest.calibration),
        "libraries": manifest.libraries,
        "summary": {split: _summary(records) for split, records in found.items()},
        "texts": {split: {r.id: r.hypothesis for r in rs} for split, rs in found.items()},
        "problems": {
            split: {r.id: r.problem for r in rs if r.problem} for split, rs in found.items()
        },
    }


def _judged(found: Records, expected: Records, limit: float) -> dict[str, Any]:
    """Return WER, comparison and gate of a variant, on the utterances that it was heard on."""
    heard = {
        split: [record for record in of_split if record.id in {r.id for r in found[split]}]
        for split, of_split in expected.items()
    }
    judged = pipeline.judge_records({"baseline": heard, "variant": found}, limit)
    return {
        "summary": {split: _summary(records) for split, records in found.items()},
        "comparison": {split: s["comparison"] for split, s in judged["summary"].items()},
        "gate": judged["gate"],
        "collapsed": any(
            _collapsed(found[split], of_split) for split, of_split in expected.items()
        ),
    }


def _summary(records: list[wer.Record]) -> dict[str, Any]:
    kept = ("wer", "interval", "utterances", "words", "substitutions", "deletions", "insertions")
    summary = wer.summarize(records)
    return {key: summary[key] for key in (*kept, "empty", "looping")}


def _records(result: dict[str, Any], name: str) -> Records:
    """Return a row's records as far as the results hold them: without times."""
    row = result["rows"][name]
    return {
        split: [
            wer.Record(
                id=key,
                hypothesis=text,
                seconds=0.0,
                problem=row["problems"][split].get(key),
                **result["utterances"][split][key],
            )
            for key, text in texts.items()
        ]
        for split, texts in row["texts"].items()
    }


class _Estimate:
    """Says once how long the sweep will take, by the time of the baseline's first batch."""

    def __init__(self, plan: Plan, left: Sequence[Recipe]) -> None:
        dataset, limit = plan.options.dataset, plan.options.limit
        self.each = sum(len(librispeech.utterances(dataset, s, limit)) for s in dataset.splits)
        self.transcriptions = self.each * len(left)
        self.recipes, self.left, self.rounds = len(plan.recipes), len(left), plan.rounds
        self.said = False

    def after_first_batch(self, _split: str, found: list[wer.Record]) -> bool:
        """Say it if there is a batch now; return False, as this is never enough for a split."""
        if found and not self.said:
            self.said = True
            seconds = sum(record.seconds for record in found) / len(found)
            fast = self.transcriptions * seconds
            pipeline.say(
                f"{self.left} of {self.recipes} recipes to do, {self.each} utterances each: about "
                f"{_hours(fast)} if all are as fast as fp32 here ({seconds:.2f} s an utterance), "
                f"{_hours(_SLOWEST * fast)} if all unpack their weights at every step; then "
                f"{self.rounds} rounds of timing"
            )
        return False


def _hours(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min"
