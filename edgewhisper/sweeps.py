"""Many recipes of one checkpoint: evaluated alike, compared with one baseline, timed in turns.

Resumable: evaluations are stored in the workspace, timings in the results. A recipe that fails gets
a row with the error.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from edgewhisper import pipeline, reports, speed, worker
from edgewhisper.backend import describe_device
from edgewhisper.checkpoints import Checkpoint
from edgewhisper.evaluation import comparison, conditions, datasets, gate, normalizing, run, wer
from edgewhisper.evaluation.options import EvaluationOptions
from edgewhisper.progress import Progress, ignore
from edgewhisper.recipes import BASELINE, Recipe, check_names, find_recipe
from edgewhisper.reports import FailedRow, SweepResult, SweepRow
from edgewhisper.reports.results import SweepDataset, SweepUtterance
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.bundle import Artefact, Origin
from edgewhisper_runtime.errors import DataError, EdgeWhisperError
from edgewhisper_runtime.measure import machine

COLLAPSED = 50.0  # points of WER: a variant that certainly loses more is useless
_SLOWEST = 3  # times as slow as float32: variants that unpack weights at every decoder step
_log = logging.getLogger(__name__)
Records = dict[str, list[wer.Record]]


@dataclass(frozen=True)
class Plan:
    """The inputs of a sweep; `rounds` is how often each variant's speed is measured, in turns."""

    workspace: Workspace
    checkpoint: Checkpoint
    recipes: Sequence[Recipe]
    options: EvaluationOptions
    rounds: int
    command: str = ""


def sweep(plan: Plan, output: Path, progress: Progress = ignore) -> SweepResult:
    """Evaluate every recipe, measure every speed; write results, table and plot into `output`.

    They are written after each recipe, so an interrupted sweep shows what is done. If `output`
    holds an earlier sweep of the same model and utterances, its rows of other recipes are kept, and
    those of these recipes that would not change. Raises DataError when `output` holds something
    else, EdgeWhisperError for errors that concern all recipes.
    """
    check_names(plan.recipes)
    earlier = reports.read_sweep(output)
    workspace = plan.workspace
    baseline = pipeline.stage(workspace, plan.checkpoint, find_recipe(BASELINE))
    kept_rows = {} if earlier is None else {n: r for n, r in earlier.rows.items() if n != BASELINE}
    missing = [
        recipe
        for recipe in plan.recipes
        if not _is_current(plan, recipe, kept_rows.get(recipe.name))
    ]
    estimate = _Estimate(plan, missing)
    options = replace(plan.options, audio_context=None)
    expected = run.evaluate(workspace, baseline, options, estimate.after_first_batch, progress)
    estimate.after_first_batch("", next(iter(expected.values())))
    result = _empty(plan, expected)
    result = replace(
        result,
        rows={BASELINE: _row(baseline, expected, options), **kept_rows},
        speed=None if earlier is None else earlier.speed,
    )
    if earlier is not None:
        _check_comparable(earlier, result, output)
    for number, recipe in enumerate(missing, 1):
        _log.info("recipe %d of %d: %s", number, len(missing), recipe.name)
        row: SweepRow | FailedRow
        try:
            variant, records = _evaluated(plan, recipe, expected, progress)
            row = _with_verdict(_row(variant, records, plan.options), records, expected, result)
        except EdgeWhisperError as error:
            _log.warning("%s failed: %s", recipe.name, error)
            row = FailedRow(recipe, " ".join(str(error).split()))
        result = replace(result, rows=result.rows | {recipe.name: row})
        reports.write_sweep(result, output)
    result = rescore(result)
    reports.write_sweep(result, output)
    if plan.rounds:
        result = _measure_speed(plan, result, output)
    return result


def rescore(result: SweepResult) -> SweepResult:
    """Return a sweep with every figure of WER computed again from the raw texts in it."""
    expected = result.records(BASELINE)
    rows = dict(result.rows)
    for name, row in result.measured.items():
        if row is result.baseline:
            summary = {split: wer.summarize_errors(rs) for split, rs in expected.items()}
            rows[name] = replace(row, summary=summary)
        else:
            rows[name] = _with_verdict(row, result.records(name), expected, result)
    return replace(result, rows=rows)


def _check_comparable(earlier: SweepResult, result: SweepResult, output: Path) -> None:
    """Raise DataError unless earlier rows are comparable with new ones: same data and baseline."""
    for what in ("model", "utterances", "conditions", "device"):
        if getattr(earlier, what) != getattr(result, what):
            raise DataError(
                f"{output} holds a sweep of another {what}. Name another directory with --output."
            )
    new, old = result.baseline, earlier.baseline
    if (new.texts, new.decoding) != (old.texts, old.decoding):
        raise DataError(
            f"{output} holds a sweep whose baseline gave other texts: other libraries, another "
            "processor, or another version. Name another directory with --output."
        )


def _is_current(plan: Plan, recipe: Recipe, row: SweepRow | FailedRow | None) -> bool:
    """Tell whether a row has the texts that the recipe would give again."""
    if not isinstance(row, SweepRow):
        return False
    try:
        speech = plan.options.dataset.librispeech
        planned = pipeline.plan(plan.workspace, plan.checkpoint, recipe, speech).manifest
    except EdgeWhisperError:  # raised again when its turn comes
        return False
    made = (row.recipe, row.settings, row.libraries, row.calibration, row.decoding)
    return made == (
        recipe,
        planned.settings,
        planned.libraries,
        planned.calibration,
        run.decoding(planned, plan.options),
    )


def _measure_speed(plan: Plan, result: SweepResult, output: Path) -> SweepResult:
    """Measure every variant that has not collapsed, and write the results after each time."""
    speech = plan.options.dataset.librispeech
    variants: dict[str, Artefact] = {}
    for name, row in result.measured.items():
        if row.collapsed:
            continue
        try:
            variants[name] = pipeline.artefact(plan.workspace, plan.checkpoint, row.recipe, speech)
        except EdgeWhisperError as error:
            _log.warning("%s could not be measured: %s", name, error)
    for timing in speed.measure(variants, plan.options, plan.rounds, result.speed):
        result = replace(result, speed=timing)
        reports.write_sweep(result, output)
    return result


def _evaluated(
    plan: Plan, recipe: Recipe, expected: Records, progress: Progress
) -> tuple[Artefact, Records]:
    """Return a recipe's variant and its records, computing missing ones.

    Raises EdgeWhisperError, also if the process that computes them dies.
    """
    speech = plan.options.dataset.librispeech
    workspace, options = plan.workspace, plan.options
    variant = pipeline.staged(workspace, plan.checkpoint, recipe, speech)
    if variant is not None:
        variant = pipeline.artefact(workspace, plan.checkpoint, recipe, speech)
    if variant is None or not _is_complete(run.recorded(workspace, variant, options), expected):
        arguments = (workspace, plan.checkpoint, recipe, options, expected)
        if options.engine == "local":
            worker.run(_evaluate, *arguments, progress=progress)
        else:
            _evaluate(*arguments, progress=progress)
        variant = pipeline.artefact(workspace, plan.checkpoint, recipe, speech)
    return variant, run.recorded(workspace, variant, options)


def _evaluate(
    workspace: Workspace,
    checkpoint: Checkpoint,
    recipe: Recipe,
    options: EvaluationOptions,
    expected: Records,
    *,
    progress: Progress,
) -> None:
    """Stage and evaluate one recipe; its records are left on disk.

    Any error of a library becomes an EdgeWhisperError, as it concerns this recipe only.
    """
    with worker.contained():
        speech = options.dataset.librispeech
        variant = pipeline.artefact(workspace, checkpoint, recipe, speech, progress)
        run.evaluate(
            workspace,
            variant,
            options,
            lambda split, records: _has_collapsed(records, expected[split]),
            progress,
        )


def _has_collapsed(records: list[wer.Record], expected: list[wer.Record]) -> bool:
    return comparison.least_difference(expected, records) > COLLAPSED


def _is_complete(records: Records, expected: Records) -> bool:
    return all(
        len(records[split]) == len(of_split) or _has_collapsed(records[split], of_split)
        for split, of_split in expected.items()
    )


def _empty(plan: Plan, expected: Records) -> SweepResult:
    """Return a sweep's results without rows: the model, the data, and the references."""
    options, checkpoint = plan.options, plan.checkpoint
    return SweepResult(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        edgewhisper=metadata.version("edgewhisper"),
        command=plan.command,
        model=Origin(checkpoint.name, checkpoint.provenance, checkpoint.weights),
        dataset=SweepDataset(
            **vars(options.dataset.record(options.limit)),
            seconds={split: sum(r.duration for r in rs) for split, rs in expected.items()},
        ),
        device=describe_device(options.device),
        language=", ".join(options.dataset.languages),
        machine=machine.describe(),
        normalizer=normalizing.normalizer(),
        utterances={
            split: {
                record.id: SweepUtterance(
                    record.speaker,
                    record.reference,
                    record.duration,
                    record.language,
                    record.normalizer,
                )
                for record in of_split
            }
            for split, of_split in expected.items()
        },
        conditions=conditions.describe(options.dataset.splits, options.conditions),
    )


def _row(variant: Artefact, records: Records, options: EvaluationOptions) -> SweepRow:
    """Return a variant's row without comparison: how it was made, and its raw texts."""
    manifest = variant.manifest
    return SweepRow(
        recipe=Recipe.from_record(manifest.recipe, manifest.name),
        weight_bytes=manifest.weight_bytes,
        files={name: file.sha256 for name, file in manifest.files.items()},
        settings=manifest.settings,
        decoding=run.decoding(manifest, options),
        machine=machine.describe(),
        census=manifest.census,
        calibration=manifest.calibration,
        libraries=manifest.libraries,
        summary={split: wer.summarize_errors(rs) for split, rs in records.items()},
        texts={split: {r.id: r.hypothesis for r in rs} for split, rs in records.items()},
        problems={
            split: {r.id: r.problem for r in rs if r.problem} for split, rs in records.items()
        },
    )


def _with_verdict(
    row: SweepRow, records: Records, expected: Records, result: SweepResult
) -> SweepRow:
    """Return a row with WER, comparison and verdict, on the utterances that it has texts of."""
    baseline = comparison.matching(expected, records)
    limit = row.recipe.max_wer_increase
    return replace(
        row,
        summary={split: wer.summarize_errors(rs) for split, rs in records.items()},
        comparison={
            split: comparison.compare({split: baseline[split]}, {split: rs})
            for split, rs in records.items()
        },
        gate=gate.judge(baseline, records, limit, synthetic=result.dataset.synthetic),
        collapsed=any(_has_collapsed(records[split], rs) for split, rs in expected.items()),
    )


class _Estimate:
    """Logs once how long the sweep will take, by the time of the baseline's first batch."""

    def __init__(self, plan: Plan, missing: Sequence[Recipe]) -> None:
        dataset, limit = plan.options.dataset, plan.options.limit
        of_splits = sum(len(datasets.utterances(dataset, s, limit)) for s in dataset.splits)
        self.utterances = of_splits * len(plan.options.conditions)
        self.transcriptions = self.utterances * len(missing)
        self.recipes, self.missing, self.rounds = len(plan.recipes), len(missing), plan.rounds
        self.told = False

    def after_first_batch(self, _split: str, records: list[wer.Record]) -> bool:
        """Log the estimate once there is a batch; return False, as the split must go on."""
        if records and not self.told:
            self.told = True
            seconds = sum(record.seconds for record in records) / len(records)
            fast = self.transcriptions * seconds
            _log.info(
                "%d of %d recipes to do, %d utterances each: about %s if all are as fast as fp32 "
                "here (%.2f s an utterance), %s if all unpack their weights at every step; then "
                "%d rounds of timing",
                self.missing, self.recipes, self.utterances, _hours(fast), seconds,
                _hours(_SLOWEST * fast), self.rounds,
            )  # fmt: skip
        return False


def _hours(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min"
