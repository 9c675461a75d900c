"""Render a report as Markdown, as a page, and for a terminal."""

from __future__ import annotations

import json
from pathlib import Path

from edgewhisper.evaluation import gate
from edgewhisper.evaluation.conditions import Noise
from edgewhisper.quantizers.census import summarize
from edgewhisper.recipes import Recipe
from edgewhisper.reports import (
    compare_page,
    curves,
    evaluation_page,
    markdown,
    matrix,
    sweep_page,
    view,
)
from edgewhisper.reports.differences import SystemComparison
from edgewhisper.reports.results import Report, SweepResult
from edgewhisper.reports.wording import both_intervals, metric, signed, unsigned
from edgewhisper_runtime.bundle import atomic, to_json

REPORT_FILES = ("report.json", "report.md", "report.html")
UNITS = {"WER": "words", "CER": "characters", "MER": "words and characters"}
_TEMPLATES = Path(__file__).parent
_RESULTS = "results.json"


def write(report: Report, directory: Path) -> Path:
    """Write report.json, report.md and report.html into the directory and return it."""
    atomic.write_text(
        directory / "report.json", json.dumps(report.to_json(), indent=1, ensure_ascii=False)
    )
    atomic.write_text(directory / "report.md", to_markdown(report))
    atomic.write_text(directory / "report.html", to_html(report))
    return directory


def read_sweep(directory: Path) -> SweepResult | None:
    """Return the results in a sweep's directory, None if it has none.

    Raises DataError when results.json is something else.
    """
    path = directory / _RESULTS
    return SweepResult.read(path) if path.exists() else None


def write_sweep(result: SweepResult, directory: Path) -> None:
    """Write results.json, table.md, report.html and pareto.svg into the directory.

    And noise.svg where a split was evaluated at two ratios of speech to noise.
    """
    content = json.dumps(result.to_json(), ensure_ascii=False, separators=(",", ":"))
    atomic.write_text(directory / _RESULTS, content + "\n")
    atomic.write_text(directory / "table.md", matrix.to_table(result) + "\n")
    atomic.write_text(directory / "report.html", view.render(sweep_page.page(result)))
    atomic.write_text(directory / "pareto.svg", matrix.to_plot(result))
    if curves.curves(result):
        atomic.write_text(directory / "noise.svg", curves.to_plot(result))


def write_comparison(result: SystemComparison, directory: Path) -> None:
    """Write compare.json, compare.md and compare.html into the directory."""
    content = json.dumps(to_json(result), indent=1, ensure_ascii=False)
    page = compare_page.page(result)
    atomic.write_text(directory / "compare.json", content + "\n")
    atomic.write_text(directory / "compare.md", markdown.render(page))
    atomic.write_text(directory / "compare.html", view.render(page))


def to_markdown(report: Report) -> str:
    """Return the report as Markdown."""
    return _render("report.md.jinja", report)


def to_html(report: Report) -> str:
    """Return the report as a page that needs nothing else, every text in it escaped."""
    return view.render(evaluation_page.page(report))


def to_text(report: Report) -> str:
    """Return what a terminal shows of the report: size, scope, WER by split, the verdict."""
    return _render("report.txt.jinja", report).rstrip("\n")


def _render(template: str, report: Report) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=False,  # noqa: S701 # Markdown and text are not HTML
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["megabytes"] = lambda size: f"{size / 1e6:.1f} MB"
    environment.filters["interval"] = unsigned
    environment.filters["signed"] = lambda number: f"{number:+.2f}"
    environment.filters["signed_interval"] = signed
    environment.filters["two"] = lambda number: f"{number:.2f}"
    environment.filters["units"] = UNITS.__getitem__
    environment.filters["both_intervals"] = both_intervals
    environment.filters["capitalize_first"] = lambda text: text[:1].upper() + text[1:]
    environment.filters["percent"] = lambda share: f"{100 * share:.1f} %"
    environment.filters["in_dataset"] = report.dataset.named
    environment.filters["cell"] = markdown.cell
    variant, baseline = report.variant, report.baseline
    return environment.get_template(template).render(
        report=report,
        variant=variant,
        baseline=baseline,
        recipe=Recipe.from_record(variant.recipe, variant.name),
        scope=summarize(variant.census),
        smaller=100 * (1 - variant.weight_bytes / baseline.weight_bytes),
        metric=metric(report),
        explanation=gate.explain(report.gate),
        languages={
            language: score
            for split in report.summary.values()
            for language, score in split.variant.by_language.items()
        },
        noises=_noises(report),
    )


def _noises(report: Report) -> list[Noise]:
    """Return one condition's noise of each directory and seed."""
    noises = (each.condition.noise for each in report.conditions.values())
    return list({noise.recording: noise for noise in noises if noise is not None}.values())
