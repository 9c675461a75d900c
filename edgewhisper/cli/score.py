"""edgewhisper score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from edgewhisper.cli import compare, options
from edgewhisper_runtime.cli.options import Sectioned, option
from edgewhisper_runtime.errors import DataError

if TYPE_CHECKING:
    from edgewhisper.evaluation.normalizing import NormalizerName
    from edgewhisper.evaluation.wer import Record

# Keys of JSON lines, of which a file may have only one.
_OF_A_LINE = {"text", "pred_text", "reference", "hypothesis", "audio_filepath"}


@click.command(
    "score",
    cls=Sectioned,
    examples=(
        "report.json",
        "ours.jsonl theirs.jsonl --language de",
        "ours.trn --reference reference.trn",
        "report.json --export model-card -o card/",
    ),
)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument(
    "other", required=False, type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
@compare.transcripts
@option(
    "Export",
    "--export",
    type=click.Choice(["leaderboard", "trn", "model-card"]),
    help="Write a report as the Open ASR leaderboard's JSON lines, for sclite, or as the result "
    "entry of a model card.",
)
@option(
    "Export",
    "--role",
    belongs_to="--export",
    type=click.Choice(["variant", "baseline"]),
    default="variant",
    show_default=True,
    help="Which model of a report to export.",
)
@option(
    "Export",
    "-o",
    "--output",
    belongs_to="--export",
    type=click.Path(path_type=Path, file_okay=False),
    default=".",
    help="Directory for what is exported; this one by default.",
)
@options.as_json("What was computed, on stdout.")
@click.pass_context
def command(
    context: click.Context,
    file: Path,
    other: Path | None,
    reference: Path | None,
    language: str | None,
    normalizer: NormalizerName | None,
    export: str | None,
    role: Literal["variant", "baseline"],
    output: Path,
    as_json: bool,
) -> None:
    """Score transcripts in FILE; with OTHER, compare both as `edgewhisper compare FILE OTHER`.

    A report.json of a build or evaluation, or a results.json of a sweep: every figure is computed
    again from the raw texts in it, and the command fails when the figures are not those stored.
    Transcripts of other engines: JSON lines with audio_filepath, text and pred_text (and duration,
    time, speaker and language where known), or sclite's trn with --reference. Needs no model and no
    audio.
    """
    from edgewhisper.reports import Report, exchange, transcripts

    files = [] if export else [file] if other is None else [file, other]
    compare.refuse_unused(context, [path for path in files if _rescorer(path) is None])
    if export is not None:
        if other is not None:
            raise click.UsageError("--export writes one report; leave out OTHER.")
        stored, computed, _ = _report(file)
        _check_figures(file, stored, computed)
        written = exchange.WRITERS[export](Report.read(file), role, output)
        lines = [str(path) for path in written]
        click.echo(json.dumps(lines) if as_json else "\n".join(lines))
        return
    if other is not None:
        context.invoke(
            compare.command, first=file, others=(other,), reference=reference, language=language,
            normalizer=normalizer, output=None, as_json=as_json,
        )  # fmt: skip
    elif (rescore := _rescorer(file)) is not None:
        stored, computed, text = rescore(file)
        click.echo(json.dumps(computed) if as_json else text)
        _check_figures(file, stored, computed)
    else:
        records = transcripts.read(file, reference, language or "en", normalizer)
        content, text = _figures(file, records)
        click.echo(json.dumps(content) if as_json else text)


def _check_figures(path: Path, stored: Any, computed: Any) -> None:
    if computed != stored:
        raise DataError(
            f"the figures stored in {path} are not those of its raw texts, which `edgewhisper "
            f"score {path}` shows, or another version of EdgeWhisper, the normalizer or jiwer "
            "computed them. Evaluate again."
        )


def _rescorer(path: Path) -> Any:
    """Return the function that computes a report's or a sweep's figures; None for transcripts."""
    from edgewhisper.reports.results import read_object

    content = read_object(path)
    if not content or _OF_A_LINE & content.keys():
        return None
    return _sweep if "rows" in content else _report


def _figures(path: Path, records: list[Record]) -> tuple[dict[str, Any], str]:
    """Return the figures of transcripts, as JSON and as text."""
    from edgewhisper.evaluation import normalizing, wer
    from edgewhisper.reports.render import UNITS
    from edgewhisper_runtime.bundle import to_json
    from edgewhisper_runtime.errors import amount

    summary, languages = wer.summarize_errors(records), wer.by_language(records)
    content = {
        "file": str(path),
        "summary": to_json(summary),
        "by_language": to_json(languages),
        "normalizer": to_json(normalizing.normalizer()),
    }
    interval = summary.interval
    head = (
        f"{path}: {summary.metric} {summary.wer:.2f} % (95 %: {interval.low:.2f} to "
        f"{interval.high:.2f}), {amount(summary.utterances, 'utterance')}, {summary.words} "
        f"{UNITS[summary.metric]}; substitutions {summary.substitutions}, deletions "
        f"{summary.deletions}, insertions {summary.insertions}"
    )
    lines = [
        f"  {language}: {score.metric} {score.wer:.2f} %, "
        f"{amount(score.utterances, 'utterance')}, {score.normalizer}"
        f"{'. ' + score.remark if score.remark else ''}"
        for language, score in languages.items()
    ]
    return content, "\n".join([head, *lines])


def _report(path: Path) -> tuple[Any, Any, str]:
    """Return a report's figures as stored and as computed again, and these as text."""
    from dataclasses import replace

    from edgewhisper import pipeline, reports
    from edgewhisper.reports import Report
    from edgewhisper_runtime.bundle import to_json

    report = Report.read(path)
    summary, gate = pipeline.judge(
        report.records, report.gate.max_wer_increase, synthetic=report.dataset.synthetic
    )
    stored = to_json({"summary": report.summary, "gate": report.gate})
    computed = to_json({"summary": summary, "gate": gate})
    return stored, computed, reports.to_text(replace(report, summary=summary, gate=gate))


def _sweep(path: Path) -> tuple[Any, Any, str]:
    """Return the same of a sweep's rows."""
    from edgewhisper import reports, sweeps
    from edgewhisper.reports import SweepResult

    result = SweepResult.read(path)
    scored = sweeps.rescore(result)
    rows = [each.to_json()["rows"] for each in (result, scored)]
    return rows[0], rows[1], reports.to_table(scored)
