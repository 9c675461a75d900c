"""edgewhisper compare."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click
from click.core import ParameterSource

from edgewhisper.cli import options
from edgewhisper.evaluation.normalizing import RULES, NormalizerName
from edgewhisper_runtime.cli.options import F, Sectioned, add, option
from edgewhisper_runtime.cli.values import Bundle
from edgewhisper_runtime.text.languages import to_code

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


def transcripts(command: F) -> F:
    """Add the options about transcripts of other engines: --reference, --language, --normalizer."""
    return add(
        command,
        option(
            "Transcripts",
            "--reference",
            type=FILE,
            metavar="FILE",
            help="The references (trn) of trn files.",
        ),
        option(
            "Transcripts",
            "-l",
            "--language",
            type=to_code,
            metavar="LANGUAGE",
            default="en",
            show_default=True,
            help="Language of lines that name none.",
        ),
        option(
            "Transcripts",
            "--normalizer",
            type=click.Choice([*RULES]),
            metavar="NAME",
            help="english, basic or characters, for all texts; else that of their language.",
        ),
    )


def refuse_unused(context: click.Context, files: Sequence[Path]) -> None:
    """Raise click.UsageError for options about transcripts that no file of transcripts follows."""
    from edgewhisper.reports.transcripts import is_trn

    about = {"reference": [path for path in files if is_trn(path)]}
    about |= {"language": [*files], "normalizer": [*files]}
    for name, followed_by in about.items():
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and not followed_by:
            kind = "a trn file" if files else "transcripts"
            raise click.UsageError(f"'--{name}' changes nothing without {kind}.", context)


@click.command(
    "compare",
    cls=Sectioned,
    examples=(
        "whisper-base-onnx-int8 whisper-base-onnx-int4",
        "report.json theirs.jsonl",
        "here.json pi.json -o compared/",
    ),
)
@click.argument("first", type=Bundle())
@click.argument("others", metavar="OTHERS...", nargs=-1, required=True, type=Bundle())
@transcripts
@option(
    "Output",
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory for compare.json, compare.md and compare.html.",
)
@options.as_json("All figures on stdout, instead of tables.")
@click.pass_context
def command(
    context: click.Context,
    first: Path,
    others: tuple[Path, ...],
    reference: Path | None,
    language: str | None,
    normalizer: NormalizerName | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Compare systems with the FIRST: error rate, size, speed and memory, each in a word.

    A system is a bundle or the name of one built here, the report.json of a build or evaluation,
    what `profile --json` printed here or on another machine, or the transcripts of another engine,
    as `score` reads them. Error rates are compared on the same utterances only, speed and memory on
    the same machine only; what cannot be compared is said. Needs no model and no audio.
    """
    from edgewhisper import api
    from edgewhisper.cli.table import page_tables
    from edgewhisper.reports import compare_page, systems
    from edgewhisper_runtime.bundle import to_json
    from edgewhisper_runtime.errors import DataError

    paths = (first, *others)
    refuse_unused(context, [path for path in paths if systems.kind(path) == "transcripts"])
    result = api.compare(
        paths,
        references=reference,
        language=language or "en",
        normalizer=normalizer,
        output=output,
        command=options.command_line(),
    )
    page = compare_page.page(result)
    click.echo(json.dumps(to_json(result)) if as_json else page_tables(page))
    if not any(each.comparable for each in result.differences.values()):
        raise DataError(f"nothing could be compared. {' '.join(page.notes)}")
