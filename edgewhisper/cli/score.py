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
    try:
        content = json.loads(report_file.read_text(encoding="utf-8"))
        stored, computed, text = (_sweep if "rows" in content else _report)(report_file)
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{report_file} is not an evaluation report ({error}).") from error
    click.echo(json.dumps(computed) if as_json else text)
    if computed != stored:
        raise DataError(
            f"the figures stored in {report_file} are not those of its raw texts "
            "(shown above), or another version of EdgeWhisper, the normalizer or jiwer computed "
            "them."
        )


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
