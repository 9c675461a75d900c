"""edgewhisper score."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgewhisper_runtime.errors import DataError


@click.command("score")
@click.argument("report_file", metavar="REPORT", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Summary and gate on stdout.")
def command(report_file: Path, as_json: bool) -> None:
    """Compute every figure of REPORT (a report.json) again from the raw texts in it.

    Needs no model and no audio. Ends with an error when the figures are not those stored.
    """
    from jinja2 import UndefinedError

    from edgewhisper import pipeline, reports
    from edgewhisper.evaluation.wer import Record

    try:
        stored = json.loads(report_file.read_text(encoding="utf-8"))
        records = {
            role: {split: [Record(**r) for r in rs] for split, rs in splits.items()}
            for role, splits in stored["records"].items()
        }
        limit = float(stored["gate"]["max_wer_increase"])
        claimed = {"summary": stored["summary"], "gate": stored["gate"]}
        judged = json.loads(json.dumps(pipeline.judge_records(records, limit)))
        text = json.dumps(judged) if as_json else reports.to_text({**stored, **judged})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UndefinedError) as error:
        raise DataError(f"{report_file} is not an evaluation report ({error!r}).") from error
    click.echo(text)
    if judged != claimed:
        raise DataError(
            f"the figures stored in {report_file} are not those of its raw texts "
            "(shown above), or another normalizer or jiwer version computed them."
        )
