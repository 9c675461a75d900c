"""The options that several commands share."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from edgewhisper.workspace import Workspace

if TYPE_CHECKING:
    from edgewhisper.evaluation.datasets import Dataset
    from edgewhisper.evaluation.options import EvaluationOptions

F = TypeVar("F", bound=Callable[..., Any])

_MODEL_HELP = "Model name, or path of a Hugging Face Whisper checkpoint."
DEFAULT_MODEL = "whisper-small"


def workspace(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give the command the workspace of the environment, made when the command starts."""

    @wraps(command)
    def started(*arguments: Any, **options: Any) -> Any:
        return command(Workspace.from_environment(), *arguments, **options)

    return started


def model(default: str | None = DEFAULT_MODEL) -> Callable[[F], F]:
    """Add --model."""
    return click.option(
        "--model", default=default, show_default=default is not None, help=_MODEL_HELP
    )


def rounds(default: int) -> Callable[[F], F]:
    """Add --rounds."""
    return click.option(
        "--rounds",
        default=default,
        show_default=True,
        type=click.IntRange(0),
        help="How often to measure each variant's speed, in turns; 0: not at all.",
    )


def output(command: F) -> F:
    """Add --output of a sweep."""
    return click.option(
        "--output",
        type=click.Path(path_type=Path, file_okay=False),
        help="Directory for results.json, table.md and pareto.svg.",
    )(command)


def gate(command: F) -> F:
    """Add --strict and --accept-not-proven."""
    strict = click.option(
        "--strict", is_flag=True, help="Fail unless the gate passed, on every split too."
    )
    accept = click.option(
        "--accept-not-proven",
        is_flag=True,
        help="Go on where the measured WER is above the limit, but not shown to be.",
    )
    return strict(accept(command))


def command_line() -> str:
    """Return the command as it was typed, for a report."""
    return shlex.join(["edgewhisper", *sys.argv[1:]])


def data(command: F) -> F:
    """Add the options that `dataset` takes."""
    options = (
        click.option(
            "--data",
            metavar="DATA",
            help="Data to evaluate on: a manifest (JSON lines, CSV, TSV), a directory (audio and "
            "texts, Kaldi's, LibriSpeech's, a Hugging Face data set), hub:OWNER/NAME, or the name "
            "or path of a data card; LibriSpeech by default.",
        ),
        click.option(
            "--librispeech",
            type=click.Path(path_type=Path),
            help="Directory of LibriSpeech's splits; else EDGEWHISPER_LIBRISPEECH, else what "
            "`edgewhisper data` downloaded, else the synthetic smoke set. With --data, only what "
            "recipes calibrate on.",
        ),
        click.option(
            "--split",
            "splits",
            multiple=True,
            help="Split (repeatable); by default those whose names begin with test, or all.",
        ),
        click.option(
            "--language", help="Language of utterances that name none, such as de or German."
        ),
        click.option(
            "--skip-bad",
            is_flag=True,
            help="Leave out utterances that cannot be used, and list them in the report.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def dataset(
    workspace: Workspace,
    data: str | None,
    librispeech: Path | None,
    splits: tuple[str, ...],
    language: str | None,
    skip_bad: bool,
) -> Dataset:
    """Find and check the data; raise DataError where it cannot be used."""
    from edgewhisper.cli.terminal import Bars
    from edgewhisper.evaluation.datasets import find_dataset
    from edgewhisper_runtime.text.languages import to_code

    return find_dataset(
        workspace,
        data,
        splits,
        librispeech=librispeech,
        language=to_code(language or ""),
        skip_bad=skip_bad,
        progress=Bars(),
    )


def files_of_data(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --data and --limit, which give the command `files` and `language` of a data set.

    They are those of the data's most frequent language.
    """

    @wraps(command)
    def started(*arguments: Any, data: str | None, limit: int, **options: Any) -> Any:
        if data is not None:
            from edgewhisper.evaluation.datasets import thinned

            if options["files"]:
                raise click.UsageError("--data and --audio exclude each other.")
            speech = dataset(
                Workspace.from_environment(), data, None, (), options["language"], skip_bad=False
            )
            language = next(iter(speech.languages))
            utterances = [u for of in speech.utterances.values() for u in of]
            spoken = [u.path for u in utterances if u.language == language]
            options |= {"files": tuple(thinned(spoken, limit)), "language": language}
        return command(*arguments, **options)

    started = click.option(
        "--limit",
        default=24,  # as many as the smoke set has
        show_default=True,
        type=click.IntRange(1),
        help="At most so many files of the data.",
    )(started)
    return click.option(
        "--data",
        metavar="DATA",
        help="Data to measure with, as `edgewhisper evaluate` takes it, instead of --audio.",
    )(started)


def evaluation(command: F) -> F:
    """Add the options that `evaluation_options` takes."""
    options = (
        data,
        click.option(
            "--detect-language",
            is_flag=True,
            help="Decode in the language that the model detects, and report how often it is right.",
        ),
        click.option(
            "--condition",
            "conditions",
            metavar="CONDITION",
            multiple=True,
            help="Evaluate in a condition (repeatable), such as noise=DIR,snr=10 or snr=0:20:5, "
            "telephone, level=-30, speed=1.1, or several joined by commas; clean, the default.",
        ),
        click.option("--limit", type=click.IntRange(1), help="At most so many utterances a split."),
        click.option("--device", default="cpu", show_default=True, help="cpu or cuda."),
        click.option("--threads", type=click.IntRange(1), help="Threads to compute with."),
        click.option(
            "--engine",
            type=click.Choice(["local", "ray"]),
            default="local",
            show_default=True,
            help="This machine, or all of a Ray cluster (RAY_ADDRESS), with the same result.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def evaluation_options(
    workspace: Workspace,
    *,
    detect_language: bool,
    conditions: tuple[str, ...],
    limit: int | None,
    device: str,
    threads: int | None,
    engine: Literal["local", "ray"],
    **data: Any,
) -> EvaluationOptions:
    """Return the options with the data that `dataset` finds, and the noise of the conditions."""
    from edgewhisper.evaluation.conditions import find_conditions
    from edgewhisper.evaluation.options import EvaluationOptions

    return EvaluationOptions(
        dataset(workspace, **data),
        limit,
        device,
        threads,
        engine,
        detect_language=detect_language,
        conditions=find_conditions(workspace.hashes, conditions),
    )
