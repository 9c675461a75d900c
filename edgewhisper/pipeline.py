"""quantize -> export -> evaluate -> gate -> bundle; each step leaves on disk what the next reads.

What is evaluated is what ships: the saved variant, which the PyTorch backend runs, or its
export, either loaded as a device would load it.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from edgewhisper import quantizers, reports
from edgewhisper.backend import CONFIG, WEIGHTS
from edgewhisper.checkpoints import Checkpoint
from edgewhisper.evaluation import calibration, gate, run, wer
from edgewhisper.evaluation.batches import LANGUAGE
from edgewhisper.evaluation.librispeech import SMOKE
from edgewhisper.home import home, remember_bundle
from edgewhisper.quantizers.census import check_scope, take_census
from edgewhisper.recipes import Recipe, find_recipe
from edgewhisper.staging import alone, new_directory
from edgewhisper.wheel import write_runtime_wheel
from edgewhisper_exporters import eligibility
from edgewhisper_exporters.eligibility import Format
from edgewhisper_exporters.onnx import DISTRIBUTIONS as EXPORT_LIBRARIES
from edgewhisper_runtime import bundle
from edgewhisper_runtime.errors import (
    BundleError,
    DataError,
    GateFailedError,
    GateNotProvenError,
    StorageError,
)
from edgewhisper_runtime.measure import machine

# In the order of their speed.
_CONTEXTS: tuple[bundle.AudioContext, ...] = ("adaptive", "full")
_COPIED = (CONFIG, bundle.TOKENIZER)  # from the checkpoint, as they are
_LICENSE = "LICENSE"
_LICENSE_TEXT = """The weights in this bundle derive from OpenAI's Whisper models.

OpenAI publishes the code and weights of Whisper under the MIT License, copyright (c) 2022 OpenAI
(on the Hugging Face hub, most of the checkpoints are tagged Apache-2.0). The weights were changed
as manifest.json says under "recipe". A fine-tuned checkpoint may carry further terms of its own:
look at where manifest.json says it came from.
"""


def say(message: str) -> None:
    """Tell the user on stderr what is happening."""
    print(message, file=sys.stderr)


def stage(checkpoint: Checkpoint, recipe: Recipe, speech: Path | None = None) -> Path:
    """Quantize a checkpoint into a bundle without evaluation; reuse one made the same way.

    `speech` is the directory of LibriSpeech's splits that a static recipe calibrates on.
    Raises QuantizationError when the saved artefact does not hold what the recipe says,
    DataError when the calibration data is not there.
    """
    if (directory := staged(checkpoint, recipe, speech)) is not None:
        return directory
    directory = _variant_directory(checkpoint, recipe)
    with alone(directory):
        if staged(checkpoint, recipe, speech) is None:
            _quantize(checkpoint, recipe, speech, directory)
    return directory


def _quantize(checkpoint: Checkpoint, recipe: Recipe, speech: Path | None, directory: Path) -> None:
    import torch
    from transformers import WhisperConfig

    adapter = quantizers.adapter(recipe.library)
    heard = calibration.utterances(recipe, speech)
    say(f"quantizing {checkpoint.name} with {recipe.name}")
    model = checkpoint.load()
    calibrate = partial(calibration.run, model, checkpoint, heard)
    with torch.no_grad():
        adapter.quantize(model, recipe, calibrate)
    with new_directory(directory) as staging:
        weights = staging / WEIGHTS
        adapter.save(model, weights)
        del model, calibrate
        for file in _COPIED:
            shutil.copyfile(checkpoint.path / file, staging / file)
        (staging / _LICENSE).write_text(_LICENSE_TEXT, encoding="utf-8")
        config = WhisperConfig(**checkpoint.config())
        rows = take_census(adapter.load(weights, config), adapter.describe)
        check_scope(rows, recipe)
        files = bundle.describe_files(staging)
        known = plan(checkpoint, recipe, speech)
        bundle.write_manifest(staging, replace(known, census=rows, files=files))


def staged(checkpoint: Checkpoint, recipe: Recipe, speech: Path | None = None) -> Path | None:
    """Return the variant that `stage` made before, if it is intact and would be made alike."""
    directory = _variant_directory(checkpoint, recipe)
    try:
        found = bundle.verify(directory)
    except BundleError:
        return None
    wanted = plan(checkpoint, recipe, speech)
    same = _planned(found) == _planned(wanted) and all(
        found.files.get(file) == bundle.describe_file(checkpoint.path / file) for file in _COPIED
    )
    return directory if same else None


def _variant_directory(checkpoint: Checkpoint, recipe: Recipe) -> Path:
    return home() / "variants" / f"{checkpoint.name}-{recipe.name}"


def plan(checkpoint: Checkpoint, recipe: Recipe, speech: Path | None) -> bundle.Manifest:
    """Return all of a variant's manifest that is known before the work is done."""
    adapter = quantizers.adapter(recipe.library)
    libraries = ["edgewhisper", "edgewhisper-runtime", *adapter.DISTRIBUTIONS]
    if "onnx" in recipe.exports:
        libraries += EXPORT_LIBRARIES
    return bundle.Manifest(
        name=f"{checkpoint.name}-{recipe.name}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        backend="torch",
        settings=checkpoint.settings(),
        model=bundle.Origin(checkpoint.name, checkpoint.provenance, checkpoint.weights),
        recipe=recipe.record(),
        calibration=calibration.describe(calibration.utterances(recipe, speech)),
        census=(),
        libraries=machine.versions(libraries),
    )


def _planned(manifest: bundle.Manifest) -> bundle.Manifest:
    """Return what of a manifest is known before the work is done."""
    return replace(manifest, created="", census=(), files={})


def stage_export(
    checkpoint: Checkpoint,
    recipe: Recipe,
    speech: Path | None = None,
    to_format: Format = "onnx",
    audio_context: bundle.AudioContext = "full",
) -> Path:
    """Stage a variant and export it; raise RecipeError if the recipe has no such export."""
    from edgewhisper import export

    eligibility.check(asdict(recipe), to_format)
    variant = stage(checkpoint, recipe, speech)
    return export.export(
        variant, home() / "exports" / to_format / variant.name, to_format, audio_context
    )


def artefact(checkpoint: Checkpoint, recipe: Recipe, speech: Path | None = None) -> Path:
    """Return what a recipe is made for: its export if it names one, the variant if not."""
    if not recipe.exports:
        return stage(checkpoint, recipe, speech)
    return stage_export(checkpoint, recipe, speech, recipe.exports[0])


def measure(
    checkpoint: Checkpoint,
    recipe: Recipe,
    options: run.Options,
    command: str = "",
    to_format: Format | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Stage a variant or its export, judge it against the baseline, write the report; return both.

    An export is measured with adaptive audio context first, and keeps it where the gate proves
    it. `command` is what the report says it was made by.
    """
    baseline = stage(checkpoint, find_recipe("fp32"))
    limit = recipe.max_wer_increase
    if to_format is None:
        variant = stage(checkpoint, recipe, options.dataset.root)
        report = compare(baseline, variant, limit, options, stop_when_failed=True)
    else:
        for context in _CONTEXTS:
            variant = stage_export(checkpoint, recipe, options.dataset.root, to_format, context)
            report = compare(baseline, variant, limit, options, stop_when_failed=True)
            verdict = report["gate"]["verdict"]
            say(f"gate with {context} audio context: {verdict}")
            if verdict == "passed":
                break
    report["command"] = command
    where = reports.write(report, _report_of(variant))
    say(f"report: {where / 'report.html'}")
    return variant, report


def check_target(target: Path) -> None:
    """Raise StorageError unless a bundle may be put at `target`: what is there would be lost."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise StorageError(f"{target} is no directory. Choose another place for the bundle.")
    if target.exists() and any(target.iterdir()) and not (target / bundle.MANIFEST).is_file():
        raise StorageError(
            f"{target} holds other files than a bundle's, and they would be lost. Choose another "
            "place for the bundle, or empty the directory."
        )


def install(
    variant: Path, report: dict[str, Any], target: Path | None = None, strict: bool = False
) -> Path:
    """Install a measured variant as a bundle if the gate allows it; return the bundle.

    The bundle of an export brings the runtime's wheel. Raises GateFailedError when the gate
    failed, and with `strict` GateNotProvenError when the data cannot tell; the report is kept,
    and nothing is installed. Raises StorageError where `target` is something else than a bundle.
    """
    where = _report_of(variant)
    _enforce(report["gate"], where, strict)
    target = target or home() / "bundles" / variant.name
    check_target(target)
    evaluation = bundle.parse(
        bundle.EvaluationRecord,
        {
            "verdict": report["gate"]["verdict"],
            "gate": report["gate"],
            "dataset": report["dataset"],
            "baseline": {split: s["baseline"] for split, s in report["summary"].items()},
            "variant": {split: s["variant"] for split, s in report["summary"].items()},
            "comparison": {split: s["comparison"] for split, s in report["summary"].items()},
            "report_sha256": bundle.describe_files(where)["report.json"].sha256,
        },
    )
    with new_directory(target) as staging:
        manifest = bundle.read_manifest(variant)
        for file in manifest.files:
            shutil.copyfile(variant / file, staging / file)
        files = dict(manifest.files)
        if manifest.export is not None:
            wheel = write_runtime_wheel(staging)
            files[wheel.name] = bundle.describe_file(wheel)
        bundle.write_manifest(staging, replace(manifest, evaluation=evaluation, files=files))
        bundle.verify(staging)
    remember_bundle(target)
    return target


def _report_of(variant: Path) -> Path:
    return home() / "reports" / variant.name


def compare(
    baseline: Path,
    variant: Path,
    limit: float,
    options: run.Options,
    stop_when_failed: bool = False,
) -> dict[str, Any]:
    """Evaluate two bundles on the same utterances and judge the second against the first.

    With `stop_when_failed` a split is broken off as soon as its gate has failed for certain;
    the report then holds the utterances that both have done.
    """
    expected = run.evaluate(baseline, options)

    def lost(split: str, so_far: list[wer.Record]) -> bool:
        return stop_when_failed and wer.least_difference(expected[split], so_far) > limit

    found = run.evaluate(variant, options, enough=lost)
    for split, of_split in found.items():
        if len(of_split) < len(expected[split]):
            say(f"{split}: the gate has failed, whatever the other utterances give; stopped early")
    records = {
        "baseline": {
            split: [record for record in rs if record.id in {r.id for r in found[split]}]
            for split, rs in expected.items()
        },
        "variant": found,
    }
    manifests = {
        "baseline": bundle.read_manifest(baseline),
        "variant": bundle.read_manifest(variant),
    }
    judged = judge_records(records, limit)
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "edgewhisper": metadata.version("edgewhisper"),
        "dataset": {
            "name": options.dataset.name,
            "synthetic": options.dataset.name == SMOKE,
            "limit": options.limit,
        },
        "device": options.device,
        "threads": options.threads,
        "language": LANGUAGE,
        "machine": machine.describe(),
        "normalizer": wer.normalizer(),
        "bundles": {
            role: {**bundle.to_json(manifest), "weight_bytes": manifest.weight_bytes}
            for role, manifest in manifests.items()
        },
        **judged,
        "records": {
            role: {split: [asdict(r) for r in rs] for split, rs in found.items()}
            for role, found in records.items()
        },
    }


def judge_records(records: dict[str, dict[str, list[wer.Record]]], limit: float) -> dict[str, Any]:
    """Return `summary` (by split: baseline, variant, comparison) and `gate` of raw records."""
    if records["baseline"].keys() != records["variant"].keys() or not records["baseline"]:
        raise DataError("baseline and variant were not evaluated on the same splits.")
    summary = {
        split: {
            "baseline": wer.summarize(baseline),
            "variant": wer.summarize(records["variant"][split]),
            "comparison": wer.compare(baseline, records["variant"][split]),
        }
        for split, baseline in records["baseline"].items()
    }
    comparisons = {split: s["comparison"] for split, s in summary.items()}
    return {"summary": summary, "gate": gate.judge(comparisons, limit)}


def _enforce(verdict: dict[str, Any], report: Path, strict: bool) -> None:
    limit = verdict["max_wer_increase"]
    named = ", ".join(n for n, s in verdict["splits"].items() if s["verdict"] == verdict["verdict"])
    if verdict["verdict"] == "failed":
        raise GateFailedError(
            f"the gate failed: WER on {named} rose by more than the {limit:g} points that the "
            f"recipe allows. No bundle was installed; {report / 'report.md'} has the details. "
            "Quantize less (scope, bits), or allow more (max_wer_increase)."
        )
    if verdict["verdict"] == "not proven":
        needed = [n for s in verdict["splits"].values() if (n := s["utterances_needed"])]
        amount = f"About {max(needed)} utterances a split" if needed else "No amount of data"
        message = (
            f"the gate could not prove that WER on {named} rose by at most {limit:g} points: "
            f"too few to tell. {amount} would settle it if the difference stays."
        )
        if strict:
            raise GateNotProvenError(f"{message} No bundle was installed (--strict).")
        say(f"warning: {message} The bundle is marked 'not proven'.")
