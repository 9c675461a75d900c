"""edgewhisper score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edgewhisper_runtime.errors import DataError


@click.command("score")
@click.argument("report_file", metavar="REPORT", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="What was computed, on stdout.")
def command(report_file: Path, as_json: bool) -> None:
    """Compute every figure of REPORT again from the raw texts in it.

    REPORT is a report.json of a build or evaluation, or a results.json of a sweep. Needs no
    model and no audio. Ends with an error when the figures are not those stored.
    """
    from jinja2 import UndefinedError

    try:
        stored = json.loads(report_file.read_text(encoding="utf-8"))
        claimed, judged, text = (_sweep if "rows" in stored else _report)(stored)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        ArithmeticError,
        UndefinedError,
    ) as error:
        raise DataError(f"{report_file} is not an evaluation report ({error!r}).") from error
    click.echo(json.dumps(judged) if as_json else text)
    if judged != claimed:
        raise DataError(
            f"the figures stored in {report_file} are not those of its raw texts "
            "(shown above), or another normalizer or jiwer version computed them."
        )


def _report(stored: dict[str, Any]) -> tuple[Any, Any, str]:
    """Return what a report says of its texts, what they say themselves, and that as text."""
    from edgewhisper import pipeline, reports
    from edgewhisper.evaluation.wer import Record
    from edgewhisper_runtime.bundle import to_json

    records = {
        role: {split: [Record(**r) for r in rs] for split, rs in splits.items()}
        for role, splits in stored["records"].items()
    }
    limit = float(stored["gate"]["max_wer_increase"])
    claimed = {"summary": stored["summary"], "gate": stored["gate"]}
    judged = to_json(pipeline.judge_records(records, limit))
    return claimed, judged, reports.to_text({**stored, **judged})


def _sweep(stored: dict[str, Any]) -> tuple[Any, Any, str]:
    """Return the same of a sweep's rows."""
    from edgewhisper import reports, sweep
    from edgewhisper_runtime.bundle import to_json

    judged = to_json(sweep.rescore(stored))
    return stored["rows"], judged, reports.to_table({**stored, "rows": judged})
