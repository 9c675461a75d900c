"""Speed and memory of several variants, measured in turns, each time in a fresh process."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from edgewhisper.backend import describe_device
from edgewhisper.evaluation import datasets
from edgewhisper.evaluation.options import EvaluationOptions
from edgewhisper.reports import Report, Timing
from edgewhisper_runtime import bundle
from edgewhisper_runtime.bundle import Artefact, atomic
from edgewhisper_runtime.errors import EdgeWhisperError
from edgewhisper_runtime.measure import machine, profile
from edgewhisper_runtime.measure.figures import undisturbed

_UTTERANCES = 2  # of each split
_log = logging.getLogger(__name__)


def timed(
    baseline: Artefact,
    variant: Artefact,
    report: Report,
    options: EvaluationOptions,
    rounds: int,
) -> Report:
    """Return a report with both artefacts' speed and memory, measured `rounds` times in turns.

    The variant is measured as it ships: with the audio context of the report.
    """
    if not rounds:
        return report
    with as_shipped(variant, report) as shipped:
        own_context = replace(options, audio_context=None)
        *_, timing = measure({"baseline": baseline, "variant": shipped}, own_context, rounds)
    return replace(report, speed=timing)


@contextmanager
def as_shipped(variant: Artefact, report: Report) -> Iterator[Artefact]:
    """Yield a measured variant in a temporary directory, with the settings that it ships with."""
    beside = variant.path.parent
    with (
        atomic.storage_errors(beside),
        tempfile.TemporaryDirectory(dir=beside, prefix=".shipped-") as directory,
    ):
        shipped = Artefact(Path(directory), report.variant)
        for name in variant.manifest.files:
            shutil.copyfile(variant.path / name, shipped.path / name)
        bundle.write_manifest(shipped.path, shipped.manifest)
        yield shipped


def measure(
    variants: Mapping[str, Artefact],
    options: EvaluationOptions,
    rounds: int,
    earlier: Timing | None = None,
) -> Iterator[Timing]:
    """Measure each variant once in every round; yield all figures so far after each run.

    Runs in `earlier` of the same weights, libraries, audio, audio context and machine are not
    repeated, and those of other variants on the same audio and machine are kept. A variant that
    fails has fewer runs than the others, or none. A run while the machine was busy with other work
    is kept and does not count as one of the `rounds`.
    """
    host = machine.describe()
    language = next(iter(options.dataset.languages))  # a process has one: the most frequent
    files = [
        utterance.path
        for split in options.dataset.splits
        for utterance in _in_language(language, options, split)[:_UTTERANCES]
    ]
    timing = Timing(
        machine=host,
        device=describe_device(options.device),
        threads=options.threads or machine.usable_cores(),
        files=tuple(path.name for path in files),
        audio=tuple(bundle.describe_file(path).sha256 for path in files),
        weights={},
        runs={},
    )
    if earlier is not None and timing == replace(earlier, weights={}, libraries={}, runs={}):
        timing = earlier
    for name, artefact in variants.items():
        timing = _with(timing, name, artefact, options)
    for number in range(rounds):
        for name, artefact in variants.items():
            if len(undisturbed(timing.runs[name])) > number:
                continue
            _log.info("speed, round %d of %d: %s", number + 1, rounds, name)
            try:
                run = profile.measure_afresh(
                    artefact,
                    files,
                    options.device,
                    timing.threads,
                    language,
                    options.audio_context,
                )
            except EdgeWhisperError as error:
                _log.warning("%s could not be measured: %s", name, error)
                continue
            if run.disturbed:
                _log.warning(
                    "%s: %s; this run does not count; the same command measures it again",
                    name, run.conditions,
                )  # fmt: skip
            timing = replace(timing, runs=timing.runs | {name: (*timing.runs[name], run)})
            yield timing
    yield timing


def _with(timing: Timing, name: str, artefact: Artefact, options: EvaluationOptions) -> Timing:
    """Return a timing that has a variant, with those of its runs that would be the same again."""
    manifest = artefact.manifest
    weights = {file: described.sha256 for file, described in manifest.files.items()}
    context = options.audio_context or manifest.audio_context
    known = (timing.weights.get(name), timing.libraries.get(name)) == (weights, manifest.libraries)
    runs = (run for run in timing.runs.get(name, ()) if known and run.audio_context == context)
    return replace(
        timing,
        weights=timing.weights | {name: weights},
        libraries=timing.libraries | {name: manifest.libraries},
        runs=timing.runs | {name: tuple(runs)},
    )


def _in_language(language: str, options: EvaluationOptions, split: str) -> list[datasets.Utterance]:
    of_split = datasets.utterances(options.dataset, split, options.limit)
    return [utterance for utterance in of_split if utterance.language == language]
