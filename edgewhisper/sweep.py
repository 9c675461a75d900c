"""Many recipes on one checkpoint: evaluated alike, compared with one baseline, timed in turns.

Resumable: evaluations are kept as everywhere, timings in the results. A recipe that fails takes
a row that says why.
"""

from __future__ import annotations

import multiprocessing
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
from edgewhisper_runtime import bundle, machine
from edgewhisper_runtime.errors import EdgeWhisperError

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
    `output` holds of an earlier sweep, made by the same libraries from the same weights on the
    same utterances, is taken over, other recipes included. Raises EdgeWhisperError only for
    what concerns all recipes.
    """
    baseline = pipeline.stage(plan.checkpoint, find_recipe("fp32"))
    estimate = _Estimate(plan, output)
    expected = run.evaluate(baseline, plan.options, estimate.after_first_batch)
    estimate.after_first_batch("", next(iter(expected.values())))
    result = _header(plan, expected)
    earlier = _comparable(reports.read_sweep(output), result)
    result["speed"] = earlier["speed"]
    result["rows"]["fp32"] = _row(baseline, expected)
    kept = {name: row for name, row in earlier["rows"].items() if _same(plan, row)}
    result["rows"] = kept | result["rows"]
    for number, recipe in enumerate(plan.recipes, 1):
        pipeline.say(f"recipe {number} of {len(plan.recipes)}: {recipe.name}")
        if recipe.name in kept and kept[recipe.name]["recipe"] == pipeline.as_json(asdict(recipe)):
            continue
        try:
            variant, found = _evaluated(plan, recipe, expected)
            row = _row(variant, found) | _judged(found, expected, recipe.max_wer_increase)
            result["rows"][recipe.name] = row
        except EdgeWhisperError as error:
            pipeline.say(f"{recipe.name} failed: {error}")
            result["rows"][recipe.name] = {"recipe": asdict(recipe), "error": str(error)}
        reports.write_sweep(result, output)
    result["rows"] = rescore(result)
    _measure_speed(plan, result, output)
    return result


def rescore(result: dict[str, Any]) -> dict[str, Any]:
    """Return a sweep's rows with every figure of WER computed again from the raw texts in it."""
    expected = _records(result, "fp32")
    rows = {}
    for name, row in result["rows"].items():
        rows[name] = dict(row)
        if name != "fp32" and "error" not in row:
            limit = row["recipe"]["max_wer_increase"]
            rows[name] |= _judged(_records(result, name), expected, limit)
    return rows


def _comparable(earlier: dict[str, Any] | None, result: dict[str, Any]) -> dict[str, Any]:
    """Return earlier results if their rows can stand beside new ones, else empty ones."""
    same = ("model", "utterances", "device")
    if earlier is None or any(earlier.get(key) != result[key] for key in same):
        return {"rows": {}, "speed": None}
    return earlier


def _same(plan: Plan, row: dict[str, Any]) -> bool:
    """Tell whether a row has texts of what its recipe would make now."""
    if "texts" not in row:
        return False
    try:
        recipe = Recipe.from_dict(row["recipe"], row["recipe"]["name"])
        planned = pipeline.plan(plan.checkpoint, recipe, plan.options.dataset.root)
    except EdgeWhisperError:  # of another version, or its library or data is not here
        return False
    return all(
        row[key] == pipeline.as_json(getattr(planned, key))
        for key in ("recipe", "libraries", "calibration")
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
        return pipeline.stage(plan.checkpoint, recipe, plan.options.dataset.root)

    reports.write_sweep(result, output)
    for timed in speed.measure(files, variant, plan.options, plan.rounds, result["speed"]):
        result["speed"] = timed
        reports.write_sweep(result, output)


def _evaluated(plan: Plan, recipe: Recipe, expected: Records) -> tuple[Path, Records]:
    """Return a recipe's variant and its records, computing what is missing.

    Raises EdgeWhisperError, also where the process that computes dies.
    """
    speech = plan.options.dataset.root
    variant = pipeline.staged(plan.checkpoint, recipe, speech)
    if variant is None or not _complete(run.recorded(variant, plan.options), expected):
        if plan.options.engine == "local":
            _in_own_process(plan.checkpoint, recipe, plan.options, expected)
        else:
            _evaluate(plan.checkpoint, recipe, plan.options, expected)
        variant = pipeline.stage(plan.checkpoint, recipe, speech)
    return variant, run.recorded(variant, plan.options)


def _evaluate(
    checkpoint: Checkpoint, recipe: Recipe, options: run.Options, expected: Records
) -> None:
    """Stage and evaluate one recipe; its records are left on disk.

    Whatever a library raises becomes an EdgeWhisperError: it concerns this recipe only.
    """
    try:
        variant = pipeline.stage(checkpoint, recipe, options.dataset.root)
        run.evaluate(variant, options, lambda split, found: _collapsed(found, expected[split]))
    except EdgeWhisperError:
        raise
    except Exception as error:
        raise EdgeWhisperError(f"{type(error).__name__}: {error}") from error


def _in_own_process(*arguments: Any) -> None:
    """Run `_evaluate` where its memory is given back, and where a crash ends nothing else."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            pool.submit(_evaluate, *arguments).result()
        except BrokenProcessPool as error:
            raise EdgeWhisperError(
                "its process died, perhaps for lack of memory; what it said stands above."
            ) from error


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
        "recipe": manifest.recipe,
        "weight_bytes": manifest.weight_bytes,
        "files": {name: file.sha256 for name, file in manifest.files.items()},
        "census": manifest.census,
        "calibration": manifest.calibration,
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

    def __init__(self, plan: Plan, output: Path) -> None:
        dataset, limit = plan.options.dataset, plan.options.limit
        self.each = sum(len(librispeech.utterances(dataset, s, limit)) for s in dataset.splits)
        done = (reports.read_sweep(output) or {"rows": {}})["rows"]
        new = [recipe for recipe in plan.recipes if "texts" not in done.get(recipe.name, {})]
        self.transcriptions = self.each * len(new)
        self.recipes, self.rounds = len(plan.recipes), plan.rounds
        self.said = False

    def after_first_batch(self, _split: str, found: list[wer.Record]) -> bool:
        """Say it if there is a batch now; return False, as this is never enough for a split."""
        if found and not self.said:
            self.said = True
            seconds = sum(record.seconds for record in found) / len(found)
            fast = self.transcriptions * seconds
            pipeline.say(
                f"{self.recipes} recipes, {self.each} utterances each, {self.transcriptions} "
                f"transcriptions to do: about {_hours(fast)} if every recipe is as fast as fp32 "
                f"here ({seconds:.2f} s an utterance), {_hours(_SLOWEST * fast)} if all unpack "
                f"their weights at every step; then {self.rounds} rounds of timing"
            )
        return False


def _hours(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min"
