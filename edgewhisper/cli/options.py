"""The options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

if TYPE_CHECKING:
    from edgewhisper.evaluation.run import Options

F = TypeVar("F", bound=Callable[..., Any])

_MODEL_HELP = "Model name, or path of a Hugging Face Whisper checkpoint."
DEFAULT_MODEL = "whisper-small"


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


def evaluation(command: F) -> F:
    """Add the options that `evaluation_options` takes."""
    options = (
        click.option(
            "--librispeech",
            type=click.Path(path_type=Path),
            help="Directory of LibriSpeech's splits; else EDGEWHISPER_LIBRISPEECH, else what "
            "`edgewhisper data` downloaded, else the synthetic smoke set.",
        ),
        click.option(
            "--split",
            "splits",
            multiple=True,
            help="Split (repeatable); test-clean and test-other.",
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
    librispeech: Path | None,
    splits: tuple[str, ...],
    limit: int | None,
    device: str,
    threads: int | None,
    engine: Literal["local", "ray"],
) -> Options:
    """Find the data and say on stderr which it is."""
    from edgewhisper.backend import check_device
    from edgewhisper.evaluation import cluster
    from edgewhisper.evaluation import librispeech as data
    from edgewhisper.evaluation.run import Options

    dataset = data.find(librispeech, splits)
    options = Options(dataset, limit, device, threads, engine)
    # What is wrong with either must show before the work.
    if engine == "ray":
        cluster.connect(options)
    else:
        check_device(device)
    click.echo(f"evaluating on {dataset.name} ({', '.join(dataset.splits)})", err=True)
    return options
