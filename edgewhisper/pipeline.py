"""quantize -> export -> evaluate -> gate -> bundle; each step leaves on disk what the next reads.

What is evaluated is what ships: the saved variant, which the PyTorch backend runs, or its
export, either loaded as a device would load it.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path

from edgewhisper import quantizers
from edgewhisper.backend import CONFIG, WEIGHTS, describe_device
from edgewhisper.checkpoints import Checkpoint, vocabulary
from edgewhisper.evaluation import (
    calibration,
    comparison,
    conditions,
    context,
    gate,
    normalizing,
    run,
    wer,
)
from edgewhisper.evaluation.datasets import Utterance
from edgewhisper.evaluation.options import EvaluationOptions
from edgewhisper.progress import Progress, ignore
from edgewhisper.quantizers.census import check_scope, take_census
from edgewhisper.recipes import BASELINE, Recipe, find_recipe
from edgewhisper.reports import REPORT_FILES, ContextTrial, Report, SplitReport
from edgewhisper.staging import alone, new_directory
from edgewhisper.wheel import write_runtime_wheel
from edgewhisper.workspace import Workspace
from edgewhisper_exporters import eligibility
from edgewhisper_runtime import bundle
from edgewhisper_runtime.bundle import Artefact
from edgewhisper_runtime.errors import BundleError, DataError, StorageError, printable
from edgewhisper_runtime.measure import machine

_VERDICTS: tuple[bundle.Verdict, ...] = ("passed", "not proven", "failed")  # the best first
_COPIED = (CONFIG, bundle.TOKENIZER)  # from the checkpoint, as they are
_LICENSE = "LICENSE"
_log = logging.getLogger(__name__)
_LICENSE_TEXT = """The weights in this bundle derive from OpenAI's Whisper models.

OpenAI publishes the code and weights of Whisper under the MIT License, copyright (c) 2022 OpenAI
(on the Hugging Face hub, most of the checkpoints are tagged Apache-2.0). The weights were changed
as manifest.json says under "recipe". A fine-tuned checkpoint may carry further terms of its own:
look at where manifest.json says it came from.
"""


def stage(
    workspace: Workspace,
    checkpoint: Checkpoint,
    recipe: Recipe,
    speech: Path | None = None,
    progress: Progress = ignore,
) -> Artefact:
    """Quantize a checkpoint into a variant; reuse one made the same way.

    `speech` is the directory of LibriSpeech's splits that a static recipe calibrates on.
    Raises QuantizationError when the saved artefact does not hold what the recipe says,
    DataError when the calibration data is not there.
    """
    planned = plan(workspace, checkpoint, recipe, speech)
    if variant := _staged(workspace, planned):
        return variant
    with alone(planned.directory):
        return _staged(workspace, planned) or _quantize(workspace, planned, recipe, progress)


@dataclass(frozen=True)
class Plan:
    """A variant before it is made: its directory, and its manifest without census and files.

    `source` is the checkpoint, with the vocabulary that the recipe leaves of it, `calibrated_on`
    the utterances that the recipe calibrates on.
    """

    directory: Path
    source: Checkpoint
    calibrated_on: list[Utterance]
    manifest: bundle.Manifest


def plan(workspace: Workspace, checkpoint: Checkpoint, recipe: Recipe, speech: Path | None) -> Plan:
    """Return the plan of a variant.

    Raises MissingLibraryError without the recipe's library, DataError when the calibration data is
    not there, and what `vocabulary.cut` raises.
    """
    adapter = quantizers.adapter(recipe.library)
    source = vocabulary.cut(workspace, checkpoint, recipe.languages)
    calibrated_on = calibration.utterances(recipe, speech)
    libraries = ["edgewhisper", "edgewhisper-runtime", *adapter.DISTRIBUTIONS]
    for name in recipe.exports:
        libraries += eligibility.find(name).distributions
    manifest = bundle.Manifest(
        name=f"{checkpoint.name}-{recipe.name}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        backend="torch",
        settings=source.settings(),
        model=bundle.Origin(source.name, source.provenance, source.weights),
        recipe=recipe.record(),
        calibration=calibration.describe(calibrated_on, workspace.hashes),
        census=(),
        libraries=machine.versions(libraries),
    )
    return Plan(workspace.variants / manifest.name, source, calibrated_on, manifest)


def _quantize(workspace: Workspace, planned: Plan, recipe: Recipe, progress: Progress) -> Artefact:
    import torch
    from transformers import WhisperConfig

    adapter, source = quantizers.adapter(recipe.library), planned.source
    _log.info("quantizing %s with %s", source.name, recipe.name)
    model = source.load()
    calibrate = partial(calibration.run, model, source, planned.calibrated_on, progress)
    with torch.no_grad():
        adapter.quantize(model, recipe, calibrate)
    with new_directory(planned.directory) as staging:
        weights = staging / WEIGHTS
        adapter.save(model, weights)
        del model, calibrate
        for file in _COPIED:
            shutil.copyfile(source.path / file, staging / file)
        (staging / _LICENSE).write_text(_LICENSE_TEXT, encoding="utf-8")
        config = WhisperConfig(**source.config())
        rows = take_census(adapter.load(weights, config), adapter.describe)
        check_scope(rows, recipe)
        manifest = replace(planned.manifest, census=rows, files=bundle.describe_files(staging))
        bundle.write_manifest(staging, manifest)
    return workspace.written(planned.directory, manifest)


def staged(
    workspace: Workspace, checkpoint: Checkpoint, recipe: Recipe, speech: Path | None = None
) -> Artefact | None:
    """Return the variant that `stage` made before, if it is intact and would be the same again."""
    return _staged(workspace, plan(workspace, checkpoint, recipe, speech))


def _staged(workspace: Workspace, planned: Plan) -> Artefact | None:
    try:
        variant = workspace.open(planned.directory)
    except BundleError:
        return None
    same = _before_work(variant.manifest) == _before_work(planned.manifest) and all(
        variant.manifest.files.get(file) == workspace.hashes.describe(planned.source.path / file)
        for file in _COPIED
    )
    return variant if same else None


def _before_work(manifest: bundle.Manifest) -> bundle.Manifest:
    """Return a manifest without the fields that are known only after the work."""
    return replace(manifest, created="", census=(), files={})


def stage_export(
    workspace: Workspace,
    checkpoint: Checkpoint,
    recipe: Recipe,
    speech: Path | None = None,
    to_format: str = "onnx",
    progress: Progress = ignore,
) -> Artefact:
    """Stage a variant and export it; raise RecipeError if the recipe has no such export."""
    from edgewhisper import export

    eligibility.check(asdict(recipe), to_format)
    variant = stage(workspace, checkpoint, recipe, speech, progress)
    return export.export(workspace, variant, to_format)


def artefact(
    workspace: Workspace,
    checkpoint: Checkpoint,
    recipe: Recipe,
    speech: Path | None = None,
    progress: Progress = ignore,
) -> Artefact:
    """Return a recipe's artefact: its export if it names one, else its variant."""
    if not recipe.exports:
        return stage(workspace, checkpoint, recipe, speech, progress)
    return stage_export(workspace, checkpoint, recipe, speech, recipe.exports[0], progress)


def measure(
    workspace: Workspace,
    checkpoint: Checkpoint,
    recipe: Recipe,
    options: EvaluationOptions,
    to_format: str | None = None,
    progress: Progress = ignore,
    max_wer_increase: float | None = None,
) -> tuple[Artefact, Report]:
    """Stage a variant or its export, and judge it against the baseline; return both.

    The limit is the recipe's unless `max_wer_increase` is given. An export is evaluated in full
    windows and in adaptive audio context, and ships with the one that `choose_context` returns. The
    synthetic set can prove nothing, so on it only full windows are tried.
    """
    speech = options.dataset.librispeech
    limit = recipe.max_wer_increase if max_wer_increase is None else max_wer_increase
    baseline = stage(workspace, checkpoint, find_recipe(BASELINE))
    if to_format is None:
        variant = stage(workspace, checkpoint, recipe, speech, progress)
        return variant, compare(workspace, baseline, variant, limit, options, progress)
    variant = stage_export(workspace, checkpoint, recipe, speech, to_format, progress)
    in_full = replace(options, audio_context="full")
    if options.dataset.synthetic:
        return variant, compare(workspace, baseline, variant, limit, in_full, progress)
    settings = replace(
        variant.manifest.settings, adaptive=context.choose(workspace, variant, options, progress)
    )
    variant = replace(variant, manifest=replace(variant.manifest, settings=settings))
    in_adaptive = replace(options, audio_context="adaptive")
    return variant, choose_context(
        compare(workspace, baseline, variant, limit, in_full, progress),
        compare(workspace, baseline, variant, limit, in_adaptive, progress),
    )


def choose_context(full: Report, adaptive: Report) -> Report:
    """Return the report of the audio context that a variant ships with.

    Adaptive if two conditions hold: compared with full windows of the same variant, WER is proven
    to rise by no more than the limit, and the gate's verdict is no worse than on full windows. The
    first is a paired comparison with less noise than the gate's, which compares with float32.
    """
    limit = full.gate.max_wer_increase
    difference = comparison.compare(full.records["variant"], adaptive.records["variant"])
    proven = difference.interval.high <= limit
    trials = (
        _trial(full),
        replace(_trial(adaptive), difference=difference, proven=proven),
    )
    no_worse = _VERDICTS.index(adaptive.gate.verdict) <= _VERDICTS.index(full.gate.verdict)
    return replace(adaptive if proven and no_worse else full, contexts=trials)


def _trial(report: Report) -> ContextTrial:
    overall = report.gate.overall
    if overall is None:
        raise ValueError("a report of this version has the comparison over all splits")
    return ContextTrial(report.variant.audio_context, report.gate.verdict, overall)


def check_target(target: Path) -> None:
    """Raise StorageError if installing a bundle at `target` would delete other files."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise StorageError(f"{target} is no directory. Choose another place for the bundle.")
    if target.exists() and any(target.iterdir()) and not (target / bundle.MANIFEST).is_file():
        raise StorageError(
            f"{target} holds other files than a bundle's, and they would be lost. Choose another "
            "place for the bundle, or empty the directory."
        )


def install(
    workspace: Workspace,
    variant: Artefact,
    report: Report,
    report_directory: Path,
    target: Path | None = None,
) -> Artefact:
    """Install a measured variant as a bundle; return the bundle.

    Its audio context is that of the report, whose files are part of the bundle. The bundle of an
    export includes the runtime's wheel.
    Raises StorageError where `target` is something else than a bundle.
    """
    manifest = variant.manifest
    target = target or workspace.bundles / manifest.name
    check_target(target)
    with new_directory(target) as staging:
        for file in manifest.files:
            shutil.copyfile(variant.path / file, staging / file)
        files = dict(manifest.files)
        for name in REPORT_FILES:
            shutil.copyfile(report_directory / name, staging / name)
            files[name] = bundle.describe_file(staging / name)
        if manifest.export is not None:
            wheel = write_runtime_wheel(staging)
            files[wheel.name] = bundle.describe_file(wheel)
        installed = replace(
            manifest,
            evaluation=_evaluation(report, files["report.json"].sha256),
            files=files,
            audio_context=report.variant.audio_context,
        )
        bundle.write_manifest(staging, installed)
        bundle.verify(staging)
    workspace.remember_bundle(target)
    return workspace.written(target, installed)


def _evaluation(report: Report, sha256: str) -> bundle.EvaluationRecord:
    """Return what a bundle's manifest keeps of a report."""
    content = {
        "verdict": report.gate.verdict,
        "gate": report.gate,
        "dataset": report.dataset,
        "baseline": {split: s.baseline for split, s in report.summary.items()},
        "variant": {split: s.variant for split, s in report.summary.items()},
        "comparison": {split: s.comparison for split, s in report.summary.items()},
        "report_sha256": sha256,
        "created": report.created,
    }
    return bundle.parse(bundle.EvaluationRecord, bundle.to_json(content))


def compare(
    workspace: Workspace,
    baseline: Artefact,
    variant: Artefact,
    limit: float,
    options: EvaluationOptions,
    progress: Progress = ignore,
) -> Report:
    """Evaluate two bundles on the same utterances and judge the second against the first.

    The options' audio context applies to the second; the first has that of its manifest.
    """
    plain = replace(options, audio_context=None)
    records = {
        "baseline": run.evaluate(workspace, baseline, plain, progress=progress),
        "variant": run.evaluate(workspace, variant, options, progress=progress),
    }
    audio_context = options.audio_context or variant.manifest.audio_context
    synthetic = options.dataset.synthetic
    summary, verdict = judge(records, limit, synthetic=synthetic)
    return Report(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        edgewhisper=metadata.version("edgewhisper"),
        dataset=options.dataset.record(options.limit),
        device=describe_device(options.device),
        threads=options.threads,
        language=", ".join(options.dataset.languages),
        machine=machine.describe(),
        normalizer=normalizing.normalizer(),
        bundles={
            "baseline": baseline.manifest,
            "variant": replace(variant.manifest, audio_context=audio_context),
        },
        summary=summary,
        gate=verdict,
        records={
            role: {split: tuple(of_split) for split, of_split in of_role.items()}
            for role, of_role in records.items()
        },
        skipped=tuple(printable(str(each)) for each in options.dataset.skipped),
        conditions=conditions.describe(options.dataset.splits, options.conditions),
    )


def judge(
    records: Mapping[str, Mapping[str, Sequence[wer.Record]]], limit: float, *, synthetic: bool
) -> tuple[dict[str, SplitReport], gate.GateVerdict]:
    """Return the figures of raw records, by role and split, and the gate's verdict.

    Raises DataError unless both roles have the same utterances.
    """
    baseline, variant = records["baseline"], records["variant"]
    if baseline.keys() != variant.keys() or not baseline:
        raise DataError("baseline and variant were not evaluated on the same splits.")
    summary = {
        split: SplitReport(
            wer.summarize(of_split),
            wer.summarize(variant[split]),
            comparison.compare({split: of_split}, {split: variant[split]}),
        )
        for split, of_split in baseline.items()
    }
    return summary, gate.judge(baseline, variant, limit, synthetic=synthetic)
