"""edgewhisper report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgewhisper.cli import options
from edgewhisper.cli.compare import FILE
from edgewhisper_runtime.cli.options import Sectioned
from edgewhisper_runtime.errors import DataError

if TYPE_CHECKING:
    from edgewhisper.reports.view import Page


@click.command(
    "report", cls=Sectioned, examples=("report.json", "sweep/results.json -o sweep.html")
)
@click.argument("file", metavar="JSON", type=FILE)
@options.output("The page to write; beside JSON, with its name, by default.", dir_okay=False)
def command(file: Path, output: Path | None) -> None:
    """Write a page, one HTML file that needs nothing else, of stored results.

    JSON is the report.json of a build or evaluation, the results.json of a sweep, the compare.json
    of a comparison, or what `profile --json` printed, here or on another machine.
    """
    from edgewhisper.reports import view
    from edgewhisper_runtime.bundle import atomic, decode_json

    try:
        content = decode_json(file.read_bytes())
        page = _page(file, content)
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"{file} holds no report, sweep, comparison or profile ({error}). Name another file."
        ) from error
    target = output or file.with_suffix(".html")
    atomic.write_text(target, view.render(page))
    click.echo(target)


def _page(file: Path, content: dict[str, object]) -> Page:
    from edgewhisper.reports import compare_page, evaluation_page, profile_page, sweep_page
    from edgewhisper.reports.differences import SystemComparison
    from edgewhisper.reports.results import Report, SweepResult
    from edgewhisper_runtime.bundle import parse
    from edgewhisper_runtime.measure.figures import ProfileReport

    if "rows" in content:
        return sweep_page.page(SweepResult.read(file))
    if "differences" in content:
        return compare_page.page(parse(SystemComparison, content, ignore_unknown=True))
    if "records" in content:
        return evaluation_page.page(Report.read(file))
    return profile_page.page(parse(ProfileReport, content, ignore_unknown=True))
