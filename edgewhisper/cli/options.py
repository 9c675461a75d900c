"""The options that several commands share."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click
from click.shell_completion import CompletionItem

from edgewhisper.recipes import Recipe, all_recipes, find_recipe
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.cli.options import add, option
from edgewhisper_runtime.cli.values import completions
from edgewhisper_runtime.errors import RecipeError, suggest
from edgewhisper_runtime.options import MAX_THREADS
from edgewhisper_runtime.text.languages import to_code

if TYPE_CHECKING:
    from edgewhisper.evaluation.datasets import Dataset
    from edgewhisper.evaluation.options import EvaluationOptions

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_MODEL = "whisper-small"


class ModelType(click.ParamType[str]):
    """The name of a model that has a card, or the directory of a checkpoint."""

    name = "model"

    def convert(self, value: Any, _param: Any, _ctx: click.Context | None) -> str:
        """Return the name; raise CheckpointError for one that is unknown."""
        from edgewhisper.checkpoints.cards import find_card

        if not Path(value).is_dir():
            find_card(value)
        return str(value)

    def shell_complete(
        self, _ctx: click.Context, _param: Any, incomplete: str
    ) -> list[CompletionItem]:
        """Return the models that begin like this, else a path."""
        from edgewhisper.checkpoints.cards import all_cards

        return completions(incomplete, (card.name for card in all_cards()))


class RecipeType(click.ParamType[Recipe]):
    """The name of a recipe that ships, or the path of a TOML file."""

    name = "recipe"

    def convert(self, value: Any, _param: Any, _ctx: click.Context | None) -> Recipe:
        """Return the recipe; raise RecipeError for one that is unknown or malformed."""
        return value if isinstance(value, Recipe) else find_recipe(value)

    def shell_complete(
        self, _ctx: click.Context, _param: Any, incomplete: str
    ) -> list[CompletionItem]:
        """Return the recipes that begin like this, else a path."""
        return completions(incomplete, (recipe.name for recipe in all_recipes()))


class LibraryType(click.ParamType[str]):
    """The name of a library that recipes quantize with."""

    name = "name"

    def convert(self, value: Any, _param: Any, _ctx: click.Context | None) -> str:
        """Return the name; raise RecipeError where no recipe is of that library."""
        known = self._names()
        if value not in known:
            hint = suggest(value, known, f"Use one of {', '.join(known)}.")
            raise RecipeError(f"no recipe is of the library {value!r}. {hint}")
        return str(value)

    def shell_complete(
        self, _ctx: click.Context, _param: Any, incomplete: str
    ) -> list[CompletionItem]:
        """Return the libraries that begin like this."""
        return completions(incomplete, self._names())

    @staticmethod
    def _names() -> list[str]:
        return sorted({recipe.library for recipe in all_recipes()})


class DataType(click.ParamType[str]):
    """The path of data, or the name of a data card."""

    name = "data"

    def convert(self, value: Any, _param: Any, _ctx: click.Context | None) -> str:
        """Return the name; raise DataError where there is no such data."""
        from edgewhisper.evaluation import cards

        cards.find(Workspace.from_environment(), value)
        return str(value)

    def shell_complete(
        self, _ctx: click.Context, _param: Any, incomplete: str
    ) -> list[CompletionItem]:
        """Return the data cards whose names begin like this, else a path."""
        from edgewhisper.evaluation import cards

        return completions(
            incomplete, (card.name for card in cards.all_cards(Workspace.from_environment()))
        )


def workspace(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give the command the workspace of the environment, made when the command starts."""

    @wraps(command)
    def started(*arguments: Any, **options: Any) -> Any:
        return command(Workspace.from_environment(), *arguments, **options)

    return started


def model(default: str | None = DEFAULT_MODEL) -> Callable[[F], F]:
    """Add --model."""
    return option(
        "Model",
        "-m",
        "--model",
        type=ModelType(),
        default=default,
        show_default=default is not None,
        help="Model name, or path of a Hugging Face Whisper checkpoint.",
    )


def recipe(text: str, **settings: Any) -> Callable[[F], F]:
    """Add --recipe, with this help."""
    return option("Model", "-r", "--recipe", type=RecipeType(), help=text, **settings)


def rounds(default: int) -> Callable[[F], F]:
    """Add --rounds."""
    return option(
        "Engine",
        "--rounds",
        default=default,
        show_default=True,
        type=click.IntRange(0),
        metavar="N",
        help="How often to measure each variant's speed, in turns; 0: not at all.",
    )


def output(text: str, **path: Any) -> Callable[[F], F]:
    """Add --output, with this help, for what `click.Path` allows."""
    return option("Output", "-o", "--output", type=click.Path(path_type=Path, **path), help=text)


def output_of_sweep(command: F) -> F:
    """Add --output of a sweep."""
    text = "Directory for results.json, table.md, report.html and plots."
    return output(text, file_okay=False)(command)


def as_json(text: str) -> Callable[[F], F]:
    """Add --json, with this help."""
    return option("Output", "--json", "as_json", is_flag=True, help=text)


def gate(command: F) -> F:
    """Add --strict and --accept-not-proven."""
    return add(
        command,
        option("Gate", "--strict", is_flag=True, help="Fail unless it passed, on every split too."),
        option(
            "Gate",
            "--accept-not-proven",
            is_flag=True,
            help="Go on where the measured WER is above the limit, but not shown to be.",
        ),
    )


def command_line() -> str:
    """Return the command as it was typed, for a report."""
    return shlex.join(["edgewhisper", *sys.argv[1:]])


def splits(command: F) -> F:
    """Add --split."""
    return option(
        "Data",
        "--split",
        "splits",
        multiple=True,
        metavar="SPLIT",
        help="Split (repeatable); by default those whose names begin with test, or all.",
    )(command)


def language(command: F) -> F:
    """Add --language of utterances; the command gets the code."""
    return option(
        "Data",
        "-l",
        "--language",
        type=to_code,
        metavar="LANGUAGE",
        help="Language of utterances that name none, such as de or German.",
    )(command)


def data(command: F) -> F:
    """Add the options that `dataset` takes."""
    return add(
        command,
        option(
            "Data",
            "--data",
            type=DataType(),
            help="Data to evaluate on: a manifest (JSON lines, CSV, TSV), a directory (audio and "
            "texts, Kaldi's, LibriSpeech's, a Hugging Face data set), hub:OWNER/NAME, or the name "
            "or path of a data card; LibriSpeech by default.",
        ),
        option(
            "Data",
            "--librispeech",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="Directory of LibriSpeech's splits; else EDGEWHISPER_LIBRISPEECH, else what "
            "`edgewhisper data` downloaded, else the synthetic smoke set. With --data, only what "
            "recipes calibrate on.",
        ),
        splits,
        language,
        option(
            "Data",
            "--skip-bad",
            is_flag=True,
            help="Leave out utterances that cannot be used, and list them in the report.",
        ),
    )


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

    return find_dataset(
        workspace,
        data,
        splits,
        librispeech=librispeech,
        language=language,
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

    return add(
        started,
        option(
            "Speech",
            "--data",
            type=DataType(),
            help="Data to measure with, as `edgewhisper evaluate` takes it, instead of --audio.",
        ),
        option(
            "Speech",
            "--limit",
            belongs_to="--data",
            default=24,  # as many as the smoke set has
            show_default=True,
            type=click.IntRange(1),
            metavar="N",
            help="At most so many files of the data.",
        ),
    )


def evaluation(command: F) -> F:
    """Add the options that `evaluation_options` takes."""
    return add(
        command,
        data,
        option(
            "Data",
            "--condition",
            "conditions",
            metavar="CONDITION",
            multiple=True,
            help="Evaluate in a condition (repeatable), such as noise=DIR,snr=10 or snr=0:20:5, "
            "telephone, level=-30, speed=1.1, or several joined by commas; clean, the default.",
        ),
        option(
            "Data",
            "--limit",
            type=click.IntRange(1),
            metavar="N",
            help="At most so many utterances a split.",
        ),
        option(
            "Data",
            "--detect-language",
            is_flag=True,
            help="Decode in the language that the model detects, and report how often it is right.",
        ),
        option("Engine", "--device", default="cpu", show_default=True, help="cpu or cuda."),
        option(
            "Engine",
            "--threads",
            type=click.IntRange(1, MAX_THREADS),
            metavar="N",
            help="Threads to compute with; all cores that may be used, by default.",
        ),
        option(
            "Engine",
            "--engine",
            type=click.Choice(["local", "ray"]),
            default="local",
            show_default=True,
            help="This machine, or all of a Ray cluster (RAY_ADDRESS), with the same result.",
        ),
    )


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
