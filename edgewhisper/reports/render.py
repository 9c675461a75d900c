"""Render a report as Markdown, as one self-contained HTML file, and for a terminal."""

from __future__ import annotations

import json
from pathlib import Path

from edgewhisper.evaluation import gate
from edgewhisper.evaluation.comparison import Comparison
from edgewhisper.quantizers.census import summarize
from edgewhisper.recipes import Recipe
from edgewhisper.reports.results import Report
from edgewhisper_runtime.bundle import Interval, Metric, atomic

REPORT_FILES = ("report.json", "report.md", "report.html")
UNITS = {"WER": "words", "CER": "characters", "MER": "words and characters"}
_TEMPLATES = Path(__file__).parent


def write(report: Report, directory: Path) -> Path:
    """Write report.json, report.md and report.html into the directory and return it."""
    atomic.write_text(
        directory / "report.json", json.dumps(report.to_json(), indent=1, ensure_ascii=False)
    )
    atomic.write_text(directory / "report.md", to_markdown(report))
    atomic.write_text(directory / "report.html", to_html(report))
    return directory


def to_markdown(report: Report) -> str:
    """Return the report as Markdown."""
    return _render("report.md.jinja", report, escape=False)


def to_html(report: Report) -> str:
    """Return the report as a page that needs nothing else, every text in it escaped."""
    return _render("report.html.jinja", report, escape=True)


def to_text(report: Report) -> str:
    """Return what a terminal shows of the report: size, scope, WER by split, the verdict."""
    return _render("report.txt.jinja", report, escape=False).rstrip("\n")


def _render(template: str, report: Report, escape: bool) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=escape,  # noqa: S701 # Markdown and text are not HTML
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["megabytes"] = lambda size: f"{size / 1e6:.1f} MB"
    environment.filters["interval"] = lambda i: f"{i.low:.2f} to {i.high:.2f}"
    environment.filters["signed"] = lambda number: f"{number:+.2f}"
    environment.filters["signed_interval"] = lambda i: f"{i.low:+.2f} to {i.high:+.2f}"
    environment.filters["two"] = lambda number: f"{number:.2f}"
    environment.filters["units"] = UNITS.__getitem__
    environment.filters["both_intervals"] = both_intervals
    environment.filters["capitalize_first"] = lambda text: text[:1].upper() + text[1:]
    environment.filters["percent"] = lambda share: f"{100 * share:.1f} %"
    environment.filters["in_dataset"] = report.dataset.named
    variant, baseline = report.variant, report.baseline
    return environment.get_template(template).render(
        report=report,
        variant=variant,
        baseline=baseline,
        recipe=Recipe.from_record(variant.recipe, variant.name),
        scope=summarize(variant.census),
        smaller=100 * (1 - variant.weight_bytes / baseline.weight_bytes),
        changed=_changed(report),
        metric=_metric(report),
        explanation=gate.explain(report.gate),
        languages={
            language: score
            for split in report.summary.values()
            for language, score in split.variant.by_language.items()
        },
    )


def both_intervals(comparison: Comparison) -> str:
    """Return the intervals over utterances and over speakers, of which the wider counts."""

    def words(interval: Interval | None) -> str:
        return "" if interval is None else f"{interval.low:+.2f} to {interval.high:+.2f}"

    text = f"over utterances {words(comparison.over_utterances)}"
    if comparison.over_speakers is not None:
        speakers = f"over {comparison.speakers} speakers"
        return f"{text}, {speakers} {words(comparison.over_speakers)}"
    known = "one speaker, so of others nothing" if comparison.speakers else "speakers not known"
    return f"{text}, {known}"


def _metric(report: Report) -> Metric:
    """Return the metric of all splits together."""
    if report.gate.overall is not None:
        return report.gate.overall.metric
    return next(iter(report.summary.values())).variant.metric


def _changed(report: Report) -> list[dict[str, str]]:
    """Return every utterance whose text differs from the baseline's."""
    return [
        {"split": split, "id": baseline.id, "reference": baseline.reference,
         "baseline": baseline.hypothesis, "variant": variant.hypothesis}
        for split, records in report.records["baseline"].items()
        for baseline, variant in zip(records, report.records["variant"][split], strict=True)
        if baseline.hypothesis != variant.hypothesis
    ]  # fmt: skip
