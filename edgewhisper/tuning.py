"""The best bundle of a checkpoint under limits, on this machine.

Cheap knowledge first: sizes are computed, then a few development utterances are transcribed, then
speed and memory are measured. What is left is evaluated one by one, the most promising first. It
ends with a candidate that has passed the gate and that no other can beat any more.

Resumable: variants, exports and texts are stored in the workspace, timings in the results.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from edgewhisper import pipeline, quantizers, reports, search, speed, worker
from edgewhisper.checkpoints import Checkpoint, vocabulary
from edgewhisper.evaluation import datasets, gate, run
from edgewhisper.evaluation.options import EvaluationOptions
from edgewhisper.progress import Progress, ignore
from edgewhisper.recipes import BASELINE, Recipe, check_names, find_recipe
from edgewhisper.recipes.sizes import exported_bytes
from edgewhisper.reports import Report
from edgewhisper.reports.tuning import (
    PLOT,
    Candidate,
    Limits,
    Outcome,
    Prefer,
    TuningResult,
    megabytes,
    to_plot,
)
from edgewhisper.workspace import Workspace
from edgewhisper_exporters import eligibility
from edgewhisper_runtime.bundle import Artefact, AudioContext, Origin, atomic, to_json
from edgewhisper_runtime.errors import EdgeWhisperError
from edgewhisper_runtime.measure import machine

_FORMAT = "onnx"
_SCREENED_ON = 12  # development utterances
_DEVELOPMENT = "development"
_BETTER: dict[Prefer, str] = {
    "speed": "is faster",
    "size": "is smaller",
    "accuracy": "has the lower error rate",
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """The inputs of tuning; `rounds` is how often each candidate's speed is measured, in turns.

    `search_bytes` is the size that one more candidate is searched for; None: no search.
    """

    workspace: Workspace
    checkpoint: Checkpoint
    recipes: Sequence[Recipe]
    options: EvaluationOptions
    limits: Limits
    prefer: Prefer
    rounds: int
    command: str = ""
    search_bytes: int | None = None


@dataclass(frozen=True)
class Choice:
    """The chosen candidate's export, with the settings that it ships with, and its report."""

    variant: Artefact
    report: Report
    report_directory: Path


def tune(
    plan: Plan, output: Path, progress: Progress = ignore
) -> tuple[TuningResult, Choice | None]:
    """Return the results, and the best candidate within the limits, None if there is none.

    Results, table and plot are written into `output` after each step, so an interrupted run shows
    what is done, and the same call goes on. Raises RecipeError where two recipes have one name,
    DataError when `output` holds something else, EdgeWhisperError for errors that concern all
    candidates.
    """
    check_names(plan.recipes)
    tuning = _Tuning(plan, output, progress)
    if plan.search_bytes is not None:
        tuning.search(plan.search_bytes)
    tuning.compute_sizes()
    tuning.screen()
    tuning.measure_speed()
    choice = tuning.choose()
    atomic.write_text(output / PLOT, to_plot(tuning.result))
    return tuning.result, choice


class _Tuning:
    """The results so far, and what was made on the way to them."""

    def __init__(self, plan: Plan, output: Path, progress: Progress) -> None:
        self.plan, self.output, self.progress = plan, output, progress
        self.options = replace(plan.options, audio_context=None)
        earlier = TuningResult.read(output)
        self.variants: dict[str, Artefact] = {}
        self.passed: dict[str, Choice] = {}
        self.measured: set[str] = set()  # as they ship
        dataset, checkpoint = plan.options.dataset, plan.checkpoint
        limit = plan.options.limit
        self.result = TuningResult(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            edgewhisper=metadata.version("edgewhisper"),
            command=plan.command,
            model=Origin(checkpoint.name, checkpoint.provenance, checkpoint.weights),
            dataset=dataset.record(limit),
            splits={s: len(datasets.utterances(dataset, s, limit)) for s in dataset.splits},
            machine=machine.describe(),
            limits=plan.limits,
            prefer=plan.prefer,
            candidates={recipe.name: Candidate(recipe) for recipe in plan.recipes},
            speed=None if earlier is None else earlier.speed,
            settings=() if earlier is None else earlier.settings,
        )

    @property
    def pending(self) -> dict[str, Candidate]:
        """The candidates that are neither rejected nor chosen."""
        candidates = self.result.candidates.items()
        return {
            name: candidate for name, candidate in candidates if candidate.outcome == "not done"
        }

    def set(self, name: str, candidate: Candidate) -> None:
        """Replace a candidate, and write the results."""
        self._keep(replace(self.result, candidates=self.result.candidates | {name: candidate}))

    def settle(self, name: str, outcome: Outcome, reason: object) -> None:
        """Say what became of a candidate, and why."""
        reason = " ".join(str(reason).split()).rstrip(".")
        _log.info("%s: %s: %s", name, outcome, reason)
        self.set(name, replace(self.result.candidates[name], outcome=outcome, reason=reason))

    def _keep(self, result: TuningResult) -> None:
        self.result = result
        result.write(self.output)

    def search(self, max_bytes: int) -> None:
        """Add the candidate with the least loss in a size, and write its recipe."""
        plan, speech = self.plan, self.plan.options.dataset.librispeech
        limit = plan.limits.max_wer_increase
        searched = search.search(
            plan.workspace, plan.checkpoint, speech, max_bytes, limit, self.progress
        )
        name = searched.recipe.name
        atomic.write_text(self.output / f"{name}.toml", search.to_toml(searched, plan.command))
        self.result = replace(self.result, search=searched)
        self.set(name, Candidate(searched.recipe))

    def compute_sizes(self) -> None:
        """Leave what has no export, what cannot be made here, and what is computed to be too large.

        Values that are not quantized are counted with 2 bytes, the least that they may take, so
        none is left here that could fit.
        """
        for name, candidate in self.pending.items():
            recipe = candidate.recipe
            reason = eligibility.why_not(to_json(recipe), _FORMAT)
            reason = reason or quantizers.unavailable(recipe.library)
            if reason is not None:
                self.settle(name, "not usable", reason)
                continue
            try:
                whole = self.plan.checkpoint
                source = vocabulary.cut(self.plan.workspace, whole, recipe.languages)
            except EdgeWhisperError as error:
                self.settle(name, "not usable", error)
                continue
            size = round(exported_bytes(source.config(), recipe))
            self.set(name, replace(candidate, computed_bytes=size))
            self._check_size(name, size, "computed")

    def _check_size(self, name: str, size: int, how: str) -> None:
        largest = self.plan.limits.max_bytes
        if largest is not None and size > largest:
            words = f"{megabytes(size)} {how}, more than {megabytes(largest)}"
            self.settle(name, "too large", words)

    def screen(self) -> None:
        """Make the exports; leave those that fail the gate on a few development utterances."""
        plan = self.plan
        speech = tuple(datasets.development(plan.options.dataset, _SCREENED_ON))
        self._keep(replace(self.result, screened_on=len(speech)))
        dataset = replace(plan.options.dataset, utterances={_DEVELOPMENT: speech} if speech else {})
        options = replace(
            self.options, dataset=dataset, limit=None, engine="local", audio_context="full"
        )
        baseline = pipeline.stage(plan.workspace, plan.checkpoint, find_recipe(BASELINE))
        expected = run.evaluate(plan.workspace, baseline, options, progress=self.progress)
        for name, candidate in self.pending.items():
            arguments = (plan.workspace, plan.checkpoint, candidate.recipe, options)
            try:
                worker.run(_prepare, *arguments, progress=self.progress)
                variant = self._export(candidate.recipe)
                records = run.recorded(plan.workspace, variant, options)
            except EdgeWhisperError as error:
                self.settle(name, "not usable", error)
                continue
            self.variants[name] = variant
            manifest = variant.manifest
            limit = plan.limits.max_wer_increase
            verdict = gate.judge(expected, records, limit) if speech else None
            made = replace(
                candidate,
                weight_bytes=manifest.weight_bytes,
                files={file: described.sha256 for file, described in manifest.files.items()},
                screening=verdict,
            )
            self.set(name, made)
            self._check_size(name, manifest.weight_bytes, "exported")
            if verdict is not None and verdict.verdict == "failed":
                words = f"on {len(speech)} development utterances {gate.explain(verdict)}"
                self.settle(name, "failed screening", words)

    def _export(self, recipe: Recipe) -> Artefact:
        plan = self.plan
        speech = plan.options.dataset.librispeech
        return pipeline.stage_export(plan.workspace, plan.checkpoint, recipe, speech, _FORMAT)

    @property
    def _measured_in(self) -> AudioContext:
        """The audio context that all candidates are measured in: the fastest that may ship."""
        return "full" if self.plan.options.dataset.synthetic else "adaptive"

    def measure_speed(self) -> None:
        """Measure all candidates in turns; leave what is too slow or takes too much memory.

        What then ships with full windows, or with other settings, is measured again as it ships.
        """
        options = replace(self.options, audio_context=self._measured_in)
        pending = {name: self.variants[name] for name in self.pending}
        for timing in speed.measure(pending, options, self.plan.rounds, self.result.speed):
            self._keep(replace(self.result, speed=timing))
        for name in self.pending:
            rtf, rss = self.result.rtf(name), self.result.peak_rss_bytes(name)
            if rtf is None or rss is None:
                self.settle(name, "not usable", "its speed could not be measured")
            else:
                self._check_speed(name, rtf, rss)

    def _check_speed(self, name: str, rtf: float, rss: float, how: str = "") -> None:
        if excess := self.plan.limits.excess(rtf, rss):
            outcome, words = excess
            self.settle(name, outcome, f"{words}{how}")

    def choose(self) -> Choice | None:
        """Go on with the most promising candidate until that one has passed and was measured."""
        while self.pending:
            name = min(self.pending, key=self._cost)
            if name not in self.passed:
                self._evaluate(name)
            elif name not in self.measured:
                self._measure_settings(name, self.passed[name])
            else:
                self.settle(name, "chosen", gate.explain(self.passed[name].report.gate))
                for other in self.pending:
                    self.settle(other, "not needed", f"{name} {_BETTER[self.plan.prefer]}")
                return self.passed[name]
        return None

    def _cost(self, name: str) -> float:
        """Return what makes a candidate worse, or the least that it may be while it is not known.

        Accuracy is known after the evaluation, speed once it was measured in the audio context
        that ships.
        """
        if self.plan.prefer == "size":
            return self.result.candidates[name].weight_bytes or 0
        if self.plan.prefer == "accuracy":
            return _difference(self.passed[name].report) if name in self.passed else -math.inf
        context = self.result.candidates[name].audio_context
        if name in self.measured and context != self._measured_in:
            return min(rtf for rtf, _ in self.result.by_threads(name).values())
        return self.result.rtf(name) or 0.0

    def _evaluate(self, name: str) -> None:
        """Evaluate a candidate, in the audio context that it ships with; leave it if refused."""
        plan, candidate = self.plan, self.result.candidates[name]
        try:
            variant, report = pipeline.measure(
                plan.workspace,
                plan.checkpoint,
                candidate.recipe,
                self.options,
                _FORMAT,
                self.progress,
                plan.limits.max_wer_increase,
            )
        except EdgeWhisperError as error:
            self.settle(name, "not usable", error)
            return
        report = replace(report, command=plan.command)
        where = reports.write(report, plan.workspace.new_report(variant.manifest.name))
        context = report.variant.audio_context
        self.set(name, replace(candidate, gate=report.gate, audio_context=context))
        if report.gate.verdict in {"failed", "not proven"}:
            self.settle(name, "gate not passed", gate.explain(report.gate))
        else:
            self.passed[name] = Choice(variant, report, where)

    def _measure_settings(self, name: str, choice: Choice) -> None:
        """Measure a candidate as it ships with 1, 2, 4 ... threads; leave it if none suits."""
        context = choice.report.variant.audio_context
        counts = _thread_counts(self.options)
        with speed.as_shipped(choice.variant, choice.report) as shipped:
            for done in range(self.plan.rounds):
                for threads in counts:  # in turns
                    options = replace(self.options, threads=threads, audio_context=context)
                    of_count = {timing.threads: timing for timing in self.result.settings}
                    *_, of_count[threads] = speed.measure(
                        {name: shipped}, options, done + 1, of_count.get(threads)
                    )
                    self._keep(replace(self.result, settings=tuple(of_count.values())))
        self.measured.add(name)
        figures = sorted(self.result.by_threads(name).values())
        if not figures:
            self.settle(name, "not usable", "its speed could not be measured")
            return
        fitting = [each for each in figures if self.plan.limits.excess(*each) is None]
        best = (fitting or figures)[0]
        self._check_speed(name, *best, f" as it ships, in {context} audio context")


def _prepare(
    workspace: Workspace,
    checkpoint: Checkpoint,
    recipe: Recipe,
    options: EvaluationOptions,
    *,
    progress: Progress,
) -> None:
    """Make a recipe's export and evaluate it; its records are left on disk."""
    with worker.contained():
        speech = options.dataset.librispeech
        variant = pipeline.stage_export(workspace, checkpoint, recipe, speech, _FORMAT, progress)
        run.evaluate(workspace, variant, options, progress=progress)


def _difference(report: Report) -> float:
    """Return the measured difference from the baseline, in points."""
    return 0.0 if report.gate.overall is None else report.gate.overall.d


def _thread_counts(options: EvaluationOptions) -> list[int]:
    """Return the asked number of threads, else 1, 2, 4 ... and all usable cores."""
    if options.threads is not None:
        return [options.threads]
    cores = machine.usable_cores()
    powers = [1 << n for n in range(cores.bit_length()) if 1 << n < cores]
    return [*powers, cores]
