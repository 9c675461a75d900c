"""What EdgeWhisper does, for other programs: the command line only parses and prints.

Every function takes names or objects, returns typed results, raises `EdgeWhisperError` or one of
its subclasses, tells `progress` how far it is, and logs to the logger "edgewhisper".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from edgewhisper import preparation
from edgewhisper.progress import Progress, ignore
from edgewhisper.recipes import BASELINE, Recipe, all_recipes, find_recipe
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.bundle import Artefact, AudioContext
from edgewhisper_runtime.errors import BundleError, DataError, RecipeError

if TYPE_CHECKING:
    from edgewhisper.evaluation.normalizing import NormalizerName
    from edgewhisper.evaluation.options import EvaluationOptions
    from edgewhisper.reports import Report, SweepResult, SystemComparison
    from edgewhisper.reports.tuning import Limits, Prefer, TuningResult
    from edgewhisper_runtime.transcriber import Transcriber

DEFAULT_MODEL = "whisper-small"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Built:
    """A bundle, the report that it was installed on, and the directory of the report's files."""

    bundle: Artefact
    report: Report
    report_directory: Path


@dataclass(frozen=True)
class Tuned(Built):
    """What `build` returns of the best bundle, and what became of every candidate."""

    result: TuningResult


def build(
    model: str,
    recipe: str | Recipe,
    options: EvaluationOptions | None = None,
    *,
    export: str = "auto",
    output: Path | None = None,
    strict: bool = False,
    accept_not_proven: bool = False,
    rounds: int = 2,
    workspace: Workspace | None = None,
    progress: Progress = ignore,
    on_report: Callable[[Report], object] = lambda _report: None,
    command: str = "",
) -> Built:
    """Quantize a model, compare its WER with fp32's, and install a bundle if the gate allows it.

    `model` is a name or the path of a checkpoint, `recipe` a name, a path or an object; `options`
    are of the evaluation, on what data is here unless they are given. `export` is a format, "none"
    for the variant itself, or "auto" for the format that needs least on a device. The bundle is
    installed in `output`, or in the workspace, which is that of the environment unless given.
    `progress` is told of every task; `on_report` is called before the gate decides; `command` is
    what the report names as its origin. The speed and memory of both are measured `rounds` times,
    in turns.

    Raises GateFailedError where WER rose by more than the recipe's limit (95 %), and
    GateNotProvenError where the measured increase is above the limit but not proven to be, unless
    `accept_not_proven`; with `strict` wherever all splits together or one of them have not passed.
    In both cases the report is kept and no bundle is installed. Raises CheckpointError for the
    model, RecipeError for the recipe or an export that it does not have, MissingLibraryError for
    its library, DataError for evaluation or calibration data, QuantizationError where the variant
    does not hold what the recipe says, StorageError where files cannot be written, NetworkError
    where a download fails.
    """
    from edgewhisper import pipeline, quantizers, reports, speed
    from edgewhisper.checkpoints import vocabulary
    from edgewhisper.evaluation import gate

    workspace = workspace or Workspace.from_environment()
    recipe = _recipe(recipe)
    # What cannot be done must show before a long download.
    if output is not None:
        pipeline.check_target(output)
    to_format = preparation.export_format(
        recipe, export, "cpu" if options is None else options.device
    )
    quantizers.adapter(recipe.library)
    vocabulary.check(recipe.languages)
    options = preparation.ready(workspace, options)
    checkpoint = preparation.resolve(workspace, model, options, recipe)
    variant, report = pipeline.measure(workspace, checkpoint, recipe, options, to_format, progress)
    baseline = pipeline.stage(workspace, checkpoint, find_recipe(BASELINE))
    report = speed.timed(baseline, variant, report, options, rounds)
    report = replace(report, command=command)
    where = reports.write(report, workspace.new_report(variant.manifest.name))
    _log.info("report: %s", where / "report.html")
    on_report(report)
    if warning := gate.enforce(
        report.gate, where, strict=strict, accept_not_proven=accept_not_proven
    ):
        _log.warning("%s", warning)
    bundle = pipeline.install(workspace, variant, report, where, output)
    return Built(bundle, report, where)


def evaluate(
    model: str | None = None,
    recipe: str | Recipe | None = None,
    options: EvaluationOptions | None = None,
    *,
    bundle: str | Path | None = None,
    max_wer_increase: float | None = None,
    rounds: int = 2,
    output: Path | None = None,
    workspace: Workspace | None = None,
    progress: Progress = ignore,
    command: str = "",
) -> Report:
    """Evaluate a recipe of a model, or a bundle, and compare it with fp32; write the report.

    `recipe` is fp32 unless given. With `bundle`, `model` is needed only where the bundle was not
    made from a model of that name. The limit is the recipe's unless `max_wer_increase` is given.
    Speed and memory are measured `rounds` times, in turns.
    The report's files are written to `output`, or into the workspace beside those of other runs.
    The gate's verdict is in the report: nothing is raised for it.

    Raises BundleError for a bundle that is not intact, DataError where its checkpoint is another
    than `model`, RecipeError for a recipe beside a bundle; otherwise as `build` does.
    """
    from edgewhisper import pipeline, reports, speed

    workspace = workspace or Workspace.from_environment()
    if bundle is not None and recipe is not None:
        raise RecipeError("a bundle has its own recipe. Name a bundle or a recipe, not both.")
    options = preparation.ready(workspace, options)
    if bundle is not None:
        variant = workspace.open(Path(bundle))
        origin = variant.manifest.model
        recipe = Recipe.from_record(variant.manifest.recipe, bundle)
        checkpoint = preparation.resolve(workspace, model or origin.name, options, recipe)
        if checkpoint.weights != origin.weights:
            raise DataError(
                f"{bundle} was made from other weights than {checkpoint.path} holds, so there is "
                "no baseline. Name its checkpoint with --model."
            )
    else:
        recipe = _recipe(recipe or BASELINE)
        checkpoint = preparation.resolve(workspace, model or DEFAULT_MODEL, options, recipe)
        speech = options.dataset.librispeech
        variant = pipeline.stage(workspace, checkpoint, recipe, speech, progress)
    baseline = pipeline.stage(workspace, checkpoint, find_recipe(BASELINE))
    limit = recipe.max_wer_increase if max_wer_increase is None else max_wer_increase
    report = pipeline.compare(workspace, baseline, variant, limit, options, progress)
    report = speed.timed(baseline, variant, report, options, rounds)
    report = replace(report, command=command)
    where = reports.write(report, output or workspace.new_report(variant.manifest.name))
    _log.info("report: %s", where / "report.html")
    return report


def sweep(
    model: str,
    recipes: Sequence[str | Recipe] = (),
    options: EvaluationOptions | None = None,
    *,
    libraries: Sequence[str] = (),
    rounds: int = 2,
    output: Path | None = None,
    workspace: Workspace | None = None,
    progress: Progress = ignore,
    command: str = "",
) -> SweepResult:
    """Compare many recipes of one model: WER, size, speed and memory.

    All recipes that ship unless some are named, of some `libraries` only where these are. Speed is
    measured `rounds` times, in turns. Results, table and plot are written to `output`, or into the
    workspace. What was done before is not done again; a recipe that fails is a row that tells why.

    Raises RecipeError for an unknown recipe or where none is left, CheckpointError for the model,
    DataError for evaluation data, or where `output` has results of other data or weights.
    """
    chosen = [*map(_recipe, recipes)] or all_recipes()
    baseline = find_recipe(BASELINE)
    chosen = [r for r in chosen if r != baseline and (not libraries or r.library in libraries)]
    if not chosen:
        raise RecipeError(
            "no recipe is left besides fp32, the baseline; see `edgewhisper recipes`."
        )
    workspace = workspace or Workspace.from_environment()
    return _sweep(
        workspace, model, chosen, options, rounds, output or workspace.sweeps, progress, command,
        named=output is not None,
    )  # fmt: skip


def compare(
    paths: Sequence[Path],
    *,
    references: Path | None = None,
    language: str = "en",
    normalizer: NormalizerName | None = None,
    output: Path | None = None,
    command: str = "",
) -> SystemComparison:
    """Compare bundles, reports, profiles and transcripts, two or more, with the first of them.

    `references` are of trn files, `language` is that of transcripts which name none, `normalizer`
    that of all transcripts. The files of the comparison are written to `output`, if it is given.

    Raises DataError for a path that is none of these or is named twice, BundleError for a bundle
    that is not intact. What cannot be compared is in the result, with the reason.
    """
    from edgewhisper import reports
    from edgewhisper.evaluation import normalizing
    from edgewhisper.reports import differences, systems

    if len({path.resolve() for path in paths}) < len(paths):
        raise DataError("a path is named twice. Name each once.")
    sources = differences.named_apart(
        [systems.read(path, references, language, normalizer) for path in paths]
    )
    result = reports.SystemComparison(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        edgewhisper=metadata.version("edgewhisper"),
        command=command,
        normalizer=normalizing.normalizer(),
        systems={source.system.name: source.system for source in sources},
        differences=differences.differences(sources),
    )
    if output is not None:
        reports.write_comparison(result, output)
    return result


def ablate(
    model: str,
    recipes: Sequence[str | Recipe],
    options: EvaluationOptions | None = None,
    *,
    rounds: int = 0,
    output: Path | None = None,
    workspace: Workspace | None = None,
    progress: Progress = ignore,
    command: str = "",
) -> SweepResult:
    """Find out which part of a model bears a recipe's precision: one part at a time.

    Every part in each recipe's scope is quantized alone, then the encoder and the decoder. The
    rows of the result are named after recipe and part. Raises RecipeError for a recipe that
    quantizes nothing; otherwise as `sweep` does.
    """
    whole = [*map(_recipe, recipes)]
    parts = [part for recipe in whole for part in recipe.one_part_at_a_time()]
    workspace = workspace or Workspace.from_environment()
    return _sweep(
        workspace, model, parts, options, rounds, output or workspace.ablations, progress, command,
        named=output is not None,
    )  # fmt: skip


def tune(
    model: str,
    limits: Limits,
    options: EvaluationOptions | None = None,
    *,
    recipes: Sequence[str | Recipe] = (),
    search: bool = False,
    prefer: Prefer = "speed",
    rounds: int = 2,
    output: Path | None = None,
    workspace: Workspace | None = None,
    progress: Progress = ignore,
    on_result: Callable[[TuningResult], object] = lambda _result: None,
    command: str = "",
) -> Tuned:
    """Find and install the best bundle of a model within limits, on this machine.

    The candidates are the recipes that ship and keep all languages, or those named, exported to
    ONNX; "best" is what is preferred. With `search` a mixed recipe for the limit of the size is
    searched first, on LibriSpeech's dev-clean, and is a candidate too. Results, table and plot are
    written to `output` and the bundle into a directory of its name there, or both into the
    workspace. What was done before is not done again. `on_result` is called before an error is
    raised for the lack of a bundle.

    Raises GateNotProvenError or GateFailedError where the gate refused the candidate that came
    closest, RecipeError where none keeps to the other limits, and for a device that exports do not
    run on, a search without a limit of the size, or a smaller one than any recipe has; otherwise as
    `sweep` does.
    """
    from edgewhisper import pipeline, tuning
    from edgewhisper.reports.tuning import enforce

    if search and limits.max_bytes is None:
        raise RecipeError("a recipe is searched for a size: set max_bytes of the limits.")
    workspace = workspace or Workspace.from_environment()
    every = [recipe for recipe in all_recipes() if not recipe.languages]
    chosen = [*map(_recipe, recipes)] or every
    options = preparation.ready(workspace, options)
    if options.device != "cpu":
        raise RecipeError(
            f"exports run on the CPU, and are tuned there; --device {options.device} was asked for."
        )
    checkpoint = preparation.resolve(workspace, model, options)
    where = output or workspace.tunings / checkpoint.name
    searched = limits.max_bytes if search else None
    plan = tuning.Plan(
        workspace, checkpoint, chosen, options, limits, prefer, rounds, command, searched
    )
    result, choice = tuning.tune(plan, where, progress)
    on_result(result)
    _log.info("results: %s", where)
    enforce(result, where)
    if choice is None:
        raise ValueError("a result without a choice has been refused")
    target = None if output is None else output / choice.variant.manifest.name
    bundle = pipeline.install(
        workspace, choice.variant, choice.report, choice.report_directory, target
    )
    return Tuned(bundle, choice.report, choice.report_directory, result)


def load(
    bundle: str | Path | Artefact | None = None,
    *,
    device: str = "cpu",
    threads: int | None = None,
    audio_context: AudioContext | None = None,
    workspace: Workspace | None = None,
) -> Transcriber:
    """Load a bundle for transcribing: by its path, by its name in the workspace, or the latest.

    `device` is "cpu" or "cuda". `threads` is how many the bundle computes with, as many as its
    engine chooses where None. `audio_context` is "full", "adaptive", or the bundle's own where
    None. Raises BundleError where there is no bundle, or where it is not intact, and
    MissingLibraryError where its engine is absent.
    """
    from edgewhisper_runtime.loading import load as load_bundle

    workspace = workspace or Workspace.from_environment()
    if bundle is None:
        bundle = workspace.latest_bundle()
        if bundle is None:
            raise BundleError("no bundle has been built yet. Build one, or name one.")
    elif isinstance(bundle, str) and not Path(bundle).exists():
        bundle = workspace.bundles / bundle
    return load_bundle(bundle, device, threads, audio_context)


def _recipe(recipe: str | Recipe) -> Recipe:
    """Return a recipe that is given by its name, its path, or as an object."""
    return recipe if isinstance(recipe, Recipe) else find_recipe(recipe)


def _sweep(
    workspace: Workspace,
    model: str,
    recipes: Sequence[Recipe],
    options: EvaluationOptions | None,
    rounds: int,
    output: Path,
    progress: Progress,
    command: str,
    *,
    named: bool,
) -> SweepResult:
    """Sweep into a directory that was named, or into that of the model under `output`."""
    from edgewhisper import sweeps

    options = preparation.ready(workspace, options)
    checkpoint = preparation.resolve(workspace, model, options)
    where = output if named else output / checkpoint.name
    plan = sweeps.Plan(workspace, checkpoint, recipes, options, rounds, command)
    result = sweeps.sweep(plan, where, progress)
    _log.info("results: %s", where)
    return result
