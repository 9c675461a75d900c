"""Reports say what the data says, escape what they quote, and can be scored again."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from conftest import Run
from edgewhisper import pipeline, reports
from edgewhisper.checkpoints import Checkpoint
from edgewhisper.evaluation import datasets
from edgewhisper.evaluation.options import EvaluationOptions
from edgewhisper.recipes import find_recipe
from edgewhisper.reports import Report
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.bundle import Artefact


@pytest.fixture(scope="module")
def report(workspace: Workspace, tiny_en: Checkpoint, tiny_bundle: Path) -> Report:
    """A comparison on three utterances of the smoke set."""
    baseline = pipeline.stage(workspace, tiny_en, find_recipe("fp32"))
    options = EvaluationOptions(datasets.find_dataset(workspace), limit=3)
    variant = Artefact.verified(tiny_bundle)
    compared = pipeline.compare(workspace, baseline, variant, 0.5, options)
    return replace(compared, command="edgewhisper evaluate <b>&")


def changed(report: Report, **changes: object) -> Report:
    """Change the variant's first record."""
    first, *others = report.records["variant"]["smoke"]
    records = {"smoke": (replace(first, **changes), *others)}
    return replace(report, records=report.records | {"variant": records})


def test_markdown_and_text_hold_the_figures(report: Report) -> None:
    smoke = report.summary["smoke"]
    for text in (reports.to_markdown(report), reports.to_text(report)):
        assert f"{smoke.variant.wer:.2f}" in text
        assert "65 of 65 Linear layers, int8 per-channel" in text
        assert "synthetic smoke set" in text
        assert report.gate.verdict == "not judged"
        assert report.gate.verdict in text


def test_what_is_written_is_read_back(report: Report, tmp_path: Path) -> None:
    path = reports.write(report, tmp_path) / "report.json"
    assert Report.read(path) == report
    content = json.loads(path.read_text())
    assert content["bundles"]["variant"]["weight_bytes"] == report.variant.weight_bytes
    earlier = json.loads(path.read_text())
    for key in ("overall", "utterances_needed", "reason"):  # of the gate, since 0.2
        del earlier["gate"][key]
    path.write_text(json.dumps(earlier))
    assert Report.read(path).records == report.records


class Collector(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in {"src", "href"}]


def test_html_is_self_contained_and_escaped(report: Report) -> None:
    hostile = changed(report, hypothesis="<script>alert(1)</script>")
    page = reports.to_html(hostile)
    parser = Collector()
    parser.feed(page)
    assert "script" not in parser.tags
    assert "&lt;script&gt;" in page
    assert parser.links == []
    assert "edgewhisper evaluate &lt;b&gt;&amp;" in page


def test_a_stranger_can_score_it_again(report: Report, tmp_path: Path, run: Run) -> None:
    where = reports.write(report, tmp_path / "report")
    result = run("score", where / "report.json", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["summary"] == report.to_json()["summary"]

    reports.write(changed(report, hypothesis="and more words than there were"), where)
    result = run("score", where / "report.json")
    assert result.returncode == 8
    assert "not those of its raw texts" in result.stderr


@pytest.mark.parametrize("duration", [0.0, float("nan")])
def test_what_cannot_be_scored_is_no_report(
    report: Report, duration: float, tmp_path: Path, run: Run
) -> None:
    path = reports.write(report, tmp_path / "report") / "report.json"
    content = json.loads(path.read_text())
    for records in content["records"].values():
        for record in records["smoke"]:
            record["duration"] = duration
    path.write_text(json.dumps(content))
    assert run("score", path).returncode == 8
