"""What must hold before the work begins: the data, the device, the model, and the export."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from edgewhisper.recipes import Recipe
from edgewhisper.workspace import Workspace
from edgewhisper_exporters import eligibility
from edgewhisper_runtime.bundle import to_json
from edgewhisper_runtime.errors import RecipeError

if TYPE_CHECKING:
    from edgewhisper.checkpoints import Checkpoint
    from edgewhisper.evaluation.options import EvaluationOptions

_log = logging.getLogger(__name__)


def ready(workspace: Workspace, options: EvaluationOptions | None) -> EvaluationOptions:
    """Return the options, of the data that is here where there are none.

    What is wrong with the device or the cluster is raised before the work.
    """
    from edgewhisper.backend import check_device
    from edgewhisper.evaluation import cluster, datasets
    from edgewhisper.evaluation.options import EvaluationOptions

    options = options or EvaluationOptions(datasets.find_dataset(workspace))
    if options.engine == "ray":
        cluster.connect(options)
    else:
        check_device(options.device)
    _log.info("evaluating on %s (%s)", options.dataset.name, ", ".join(options.dataset.splits))
    return options


def resolve(
    workspace: Workspace, model: str, options: EvaluationOptions, recipe: Recipe | None = None
) -> Checkpoint:
    """Return a model's checkpoint; raise DataError where it lacks a language of the data.

    Also where `recipe`, if all the work is for one, leaves that language out.
    """
    from edgewhisper import checkpoints
    from edgewhisper.evaluation import datasets

    checkpoint = checkpoints.resolve(workspace, model)
    datasets.check_languages(
        options.dataset,
        checkpoint,
        detect=options.detect_language,
        languages=recipe.languages if recipe else (),
    )
    return checkpoint


def export_format(recipe: Recipe, export: str, device: str) -> str | None:
    """Return what ships; raise RecipeError for what the recipe or the device does not allow."""
    if export == "none":
        return None
    if export == "auto":
        leanest = eligibility.leanest(to_json(recipe)) if device == "cpu" else None
        _log.info("export: %s", leanest or "none, the bundle is for the host toolkit")
        return leanest
    if device != "cpu":
        raise RecipeError(
            f"exports run on the CPU, and are evaluated as they run; --device {device} was asked "
            "for. Use --export none there."
        )
    eligibility.check(to_json(recipe), export)
    return export
