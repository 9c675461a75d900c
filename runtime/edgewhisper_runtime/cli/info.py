"""edgewhisper info."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgewhisper_runtime.cli import options
from edgewhisper_runtime.cli.values import Bundle
from edgewhisper_runtime.text.languages import LANGUAGES

if TYPE_CHECKING:
    from edgewhisper_runtime.bundle import (
        Adaptive,
        Difference,
        EvaluationRecord,
        Manifest,
        Score,
    )


@click.command("info", cls=options.Sectioned, examples=("bundle/",))
@click.argument("bundle", type=Bundle())
@options.option("Output", "--json", "as_json", is_flag=True, help="The whole manifest.")
def command(bundle: Path, as_json: bool) -> None:
    """Say what BUNDLE is and what it was measured to do, without reading its weights."""
    from edgewhisper_runtime.bundle import read_manifest, to_json

    manifest = read_manifest(bundle)
    if as_json:
        click.echo(json.dumps(to_json(manifest)))
        return
    recipe, evaluation = manifest.recipe, manifest.evaluation
    rows = [
        ("model", manifest.model.name),
        ("recipe", f"{recipe.name}: {recipe.summary}"),
        ("languages", _languages(recipe.languages)),
        ("engine", manifest.backend),
        ("audio context", f"{manifest.audio_context}; {_adaptive(manifest.settings.adaptive)}"),
        ("weights", f"{manifest.weight_bytes / 1e6:.1f} MB"),
        ("made", f"{manifest.created}, {_libraries(manifest.libraries)}"),
        ("gate", evaluation.verdict if evaluation else "did not run"),
    ]
    if evaluation:
        splits = (f"{by.utterances} of {split}" for split, by in evaluation.comparison.items())
        rows += [
            ("data", f"{evaluation.dataset.name}, utterances: {', '.join(splits)}"),
            ("evaluated", evaluation.created or "at an unknown date"),
            ("report", ", ".join(_reports(manifest, evaluation)) or "not in the bundle"),
        ]
        rows += [
            (f"{score.metric} {split}", _score(score, evaluation.comparison[split]))
            for split, score in evaluation.variant.items()
        ]
    width = max(len(name) for name, _ in rows)
    click.echo("\n".join([manifest.name, *(f"  {n:<{width}}  {v}" for n, v in rows)]))


def _score(score: Score, difference: Difference) -> str:
    interval = difference.interval
    return (
        f"{score.wer:.2f} % ({difference.d:+.2f} against fp32, 95 %: {interval.low:+.2f} to "
        f"{interval.high:+.2f})"
    )


def _reports(manifest: Manifest, evaluation: EvaluationRecord) -> list[str]:
    """Return the report's files in the bundle, if they are those of its evaluation."""
    report = manifest.files.get("report.json")
    if report is None or report.sha256 != evaluation.report_sha256:
        return []
    return sorted(name for name in manifest.files if name.startswith("report."))


def _languages(codes: Sequence[str]) -> str:
    if not codes:
        return "those of the model"
    named = ", ".join(f"{LANGUAGES.get(code, code)} ({code})" for code in codes)
    return f"{named} only: the vocabulary was cut"


def _adaptive(settings: Adaptive) -> str:
    """Return the settings of adaptive context in words."""
    text = f"adaptive: a margin of {settings.margin:g} s"
    if settings.min_log_probability is not None:
        text += f", in full below a log-probability of {settings.min_log_probability:g}"
    return text


def _libraries(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
