"""A mixed recipe under a size limit: each part of a model in the format that its loss allows.

Each part is quantized alone in each format, and its loss is measured (see `divergence`). Losses
are taken as additive over parts. Of all ways to choose a format for each part, the one with the
least sum that keeps to the limit is found exactly.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewhisper.divergence import Losses
from edgewhisper.evaluation import calibration, datasets
from edgewhisper.evaluation.datasets import Utterance
from edgewhisper.progress import Progress, ignore
from edgewhisper.recipes import Recipe, find_recipe
from edgewhisper.recipes.schema import Calibration, Override, Part, Weights
from edgewhisper.recipes.sizes import exported_bytes, part_bytes
from edgewhisper_runtime.bundle import to_json
from edgewhisper_runtime.bundle.fields import Count
from edgewhisper_runtime.errors import DataError, RecipeError, printable

if TYPE_CHECKING:
    from edgewhisper.checkpoints import Checkpoint
    from edgewhisper.workspace import Workspace

_BASE = "onnx-int8"  # has what a search leaves as it is, and the first format
_grouped = partial(Weights, method="asymmetric", granularity="per-group", rounding="error-feedback")
# The other formats, all of which ONNX Runtime multiplies fast.
_GROUPED = (
    _grouped("int4", group_size=32),
    _grouped("int4", group_size=64),
    _grouped("int3", group_size=32),
    _grouped("int2", group_size=32),
)
# Small parts that multiply all positions of a window, where int8 rows are fastest.
_KEPT: tuple[Part, ...] = ("decoder.cross_kv", "convolution")
_SPEECH = Calibration("dev-clean", 64)
_MEASURED_ON = 12  # utterances of these; the others are calibrated on
_FILLED = 0.99  # of the limit: computed sizes leave out names and operators, less than 1 %


@dataclass(frozen=True)
class Option:
    """A part in a format: the bytes of its weights, and its loss in nats per token."""

    weights: Weights
    weight_bytes: Count
    loss: float


@dataclass(frozen=True)
class Sensitivity:
    """What a part loses in each format, and the format that was chosen for it."""

    scope: tuple[Part, ...]
    options: tuple[Option, ...]
    chosen: Option


@dataclass(frozen=True)
class Search:
    """A searched recipe and its reasons.

    `loss` is that of the whole recipe, measured. `calibrated_on` and `measured_on` are the ids of
    the utterances that inputs and losses were measured on.
    """

    recipe: Recipe
    sensitivities: tuple[Sensitivity, ...]
    loss: float
    calibrated_on: tuple[str, ...]
    measured_on: tuple[str, ...]

    @property
    def sum_of_losses(self) -> float:
        """The loss of the whole as it would be if losses were additive."""
        return sum(part.chosen.loss for part in self.sensitivities)


def search(
    workspace: Workspace,
    checkpoint: Checkpoint,
    speech: Path | None,
    max_bytes: int,
    max_wer_increase: float,
    progress: Progress = ignore,
) -> Search:
    """Return the recipe with the least loss whose export has at most `max_bytes` of weights.

    `speech` is the directory of LibriSpeech's splits. Every loss is kept in the workspace once it
    is measured: an interrupted search goes on, and one with another limit measures one loss more.
    Raises RecipeError where the smallest formats are larger than the limit, DataError where the
    development speech is not there.
    """
    megabytes = f"{max_bytes / 1e6:.4g}"
    base = replace(
        find_recipe(_BASE),
        name=f"searched-{megabytes}MB",
        summary=f"The least loss in {megabytes} MB, searched for {checkpoint.name}",
        max_wer_increase=max_wer_increase,
    )
    config = checkpoint.config()
    sizes = {scope: _sizes(config, base, scope) for scope in base.separate_parts()}
    rest = exported_bytes(config, base) - sum(of[base.weights] for of in sizes.values())
    smallest = rest + sum(min(of.values()) for of in sizes.values())
    if smallest > _FILLED * max_bytes:
        raise RecipeError(
            f"no recipe for {checkpoint.name} can be searched in {megabytes} MB: with the smallest "
            f"format of each part it has {smallest / _FILLED / 1e6:.4g} MB. Raise the limit."
        )
    calibrated, measured = _split(replace(base, calibration=_SPEECH), speech)
    losses = Losses(workspace, checkpoint, calibrated, measured, progress)
    task, done, total = f"losses of {checkpoint.name}", 0, sum(map(len, sizes.values())) + 1
    options: dict[tuple[Part, ...], list[Option]] = {}
    for scope, of_scope in sizes.items():
        for weights, size in of_scope.items():
            progress(task, done, total)
            loss = losses.of(replace(base, scope=scope, weights=weights))
            options.setdefault(scope, []).append(Option(weights, round(size), loss))
            done += 1
    best = choose([*options.values()], _FILLED * max_bytes - rest)
    chosen = dict(zip(options, best, strict=True))
    recipe = _mixed(base, {scope: option.weights for scope, option in chosen.items()})
    progress(task, done, total)
    loss = losses.of(recipe)
    progress(task, total, total)
    return Search(
        recipe,
        tuple(Sensitivity(scope, tuple(of), chosen[scope]) for scope, of in options.items()),
        loss,
        tuple(utterance.id for utterance in calibrated),
        tuple(utterance.id for utterance in measured),
    )


def choose(options: Sequence[Sequence[Option]], max_bytes: float) -> tuple[Option, ...]:
    """Return one option of each part: the least sum of losses in `max_bytes`, the smallest such.

    Part by part, only those choices are kept that no other beats in both size and loss: one that is
    beaten could be replaced in any longer choice. Raises ValueError where nothing fits.
    """
    front: list[tuple[int, float, tuple[Option, ...]]] = [(0, 0.0, ())]
    for of_part in options:
        longer = sorted(
            (
                (size + option.weight_bytes, loss + option.loss, (*chosen, option))
                for size, loss, chosen in front
                for option in of_part
            ),
            key=lambda choice: choice[:2],
        )
        front = []
        for choice in longer:
            if choice[0] <= max_bytes and (not front or choice[1] < front[-1][1]):
                front.append(choice)
    if not front:
        raise ValueError(f"no choice has at most {max_bytes:.0f} bytes")
    return front[-1][2]


def to_toml(searched: Search, command: str) -> str:
    """Return the recipe as a file, with its reasons as comments."""
    recipe = searched.recipe
    sentences = f"{summary(searched)} Written by `{printable(command)}`."
    wrapped = textwrap.wrap(sentences, 98, break_long_words=False, break_on_hyphens=False)
    reasons = [*to_table(searched).splitlines(), "", *wrapped]
    lines = [f"# {line}".rstrip() for line in reasons]
    lines += [f'base = "{_BASE}"', *_keys(recipe, "name", "summary", "max_wer_increase")]
    if recipe.calibrates:
        lines += ["", "[calibration]", *_keys(recipe.calibration, "split", "utterances")]
    for override in recipe.overrides:
        lines += ["", "[[overrides]]", *_keys(override, "scope")]
        names = ("dtype", "method", "granularity", "group_size", "rounding")
        lines += ["", "[overrides.weights]", *_keys(override.weights, *names)]
    return "\n".join(lines) + "\n"


def to_table(searched: Search) -> str:
    """Return a Markdown table: the loss and the size of each part in each format."""
    formats = (option.weights for part in searched.sensitivities for option in part.options)
    columns = [*dict.fromkeys(formats)]
    rows = [["part", *(f"{weights.dtype} {weights.grain}" for weights in columns)]]
    for part in searched.sensitivities:
        cells = {
            option.weights: f"{1000 * option.loss:.3g}, {option.weight_bytes / 1e6:.1f} MB"
            f"{' *' if option == part.chosen else ''}"
            for option in part.options
        }
        rows.append([" and ".join(part.scope), *(cells.get(weights, "") for weights in columns)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(map(str.ljust, row, widths))} |" for row in rows)


def summary(searched: Search) -> str:
    """Return what the figures of the table are, and how they were measured."""
    loss, total = 1000 * searched.loss, 1000 * searched.sum_of_losses
    return (
        "Each part alone in each format: its loss, and the size of its weights. The loss is the "
        "mean Kullback-Leibler divergence per token from fp32, in thousandths of a nat. "
        f"*: chosen, {total:.3g} in sum; the whole recipe measured {loss:.3g}. Calibrated on "
        f"{len(searched.calibrated_on)} utterances of {_SPEECH.split}, measured on "
        f"{len(searched.measured_on)} others, evenly spread."
    )


def _sizes(config: dict[str, Any], base: Recipe, scope: tuple[Part, ...]) -> dict[Weights, float]:
    """Return the formats to choose from for some parts, and the bytes of their weights in each."""
    formats = (base.weights, *(() if scope[0] in _KEPT else _GROUPED))
    recipes = {weights: replace(base, weights=weights) for weights in formats}
    return {
        weights: sum(part_bytes(config, recipe, part) for part in scope)
        for weights, recipe in recipes.items()
    }


def _split(recipe: Recipe, speech: Path | None) -> tuple[list[Utterance], list[Utterance]]:
    """Return the utterances to calibrate on, and those to measure losses on."""
    every = calibration.utterances(recipe, speech)
    measured = datasets.thinned(every, min(_MEASURED_ON, len(every) // 2))
    if not measured:
        raise DataError(
            f"{speech} has one utterance of {_SPEECH.split}, and a search needs two: one to "
            "calibrate on, another to measure losses on. Run `edgewhisper data librispeech "
            f"--split {_SPEECH.split}`."
        )
    return [utterance for utterance in every if utterance not in measured], measured


def _mixed(base: Recipe, formats: Mapping[tuple[Part, ...], Weights]) -> Recipe:
    """Return the recipe that has each part in its format."""
    parts: dict[Weights, tuple[Part, ...]] = {}
    for scope, weights in formats.items():
        parts[weights] = parts.get(weights, ()) + scope
    parts.pop(base.weights, None)
    overrides = tuple(Override(scope, weights) for weights, scope in parts.items())
    return replace(base, overrides=overrides, calibration=_SPEECH if overrides else Calibration())


def _keys(value: Any, *names: str) -> list[str]:
    """Return keys of a dataclass as TOML: its texts, numbers and lists are written as in JSON."""
    content = to_json(value)
    return [f"{name} = {json.dumps(content[name])}" for name in names]
