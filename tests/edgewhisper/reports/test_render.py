"""Reports say what the data says, escape what they quote, and can be scored again."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from conftest import Run
from edgewhisper import pipeline, reports
from edgewhisper.checkpoints import Checkpoint
from edgewhisper.evaluation import librispeech
from edgewhisper.evaluation.run import Options
from edgewhisper.recipes import find_recipe


@pytest.fixture(scope="module")
def report(tiny_en: Checkpoint, tiny_bundle: Path) -> dict:
    baseline = pipeline.stage(tiny_en, find_recipe("fp32"))
    options = Options(librispeech.find(), limit=3)
    found = pipeline.compare(baseline, tiny_bundle, 0.5, options)
    return json.loads(json.dumps(found | {"command": "edgewhisper evaluate <b>&"}))


def test_markdown_and_text_hold_the_figures(report: dict) -> None:
    smoke = report["summary"]["smoke"]
    for text in (reports.to_markdown(report), reports.to_text(report)):
        assert f"{smoke['variant']['wer']:.2f}" in text
        assert "65 of 65 Linear layers, int8 per-channel" in text
        assert "synthetic smoke set" in text
        assert report["gate"]["verdict"] in text


class Collector(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in {"src", "href"}]


def test_html_is_self_contained_and_escaped(report: dict) -> None:
    hostile = json.loads(json.dumps(report))
    hostile["records"]["variant"]["smoke"][0]["hypothesis"] = "<script>alert(1)</script>"
    page = reports.to_html(hostile)
    parser = Collector()
    parser.feed(page)
    assert "script" not in parser.tags
    assert "&lt;script&gt;" in page
    assert parser.links == []
    assert "edgewhisper evaluate &lt;b&gt;&amp;" in page


def test_a_stranger_can_score_it_again(report: dict, tmp_path: Path, run: Run) -> None:
    where = reports.write(report, tmp_path / "report")
    result = run("score", where / "report.json", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["summary"] == report["summary"]

    report["records"]["variant"]["smoke"][0]["hypothesis"] += " and more words than there were"
    reports.write(report, where)
    result = run("score", where / "report.json")
    assert result.returncode == 8
    assert "not those of its raw texts" in result.stderr


@pytest.mark.parametrize("duration", [0.0, float("nan")])
def test_what_cannot_be_scored_is_no_report(
    report: dict, duration: float, tmp_path: Path, run: Run
) -> None:
    for records in report["records"].values():
        for record in records["smoke"]:
            record["duration"] = duration
    where = reports.write(report, tmp_path / "report")
    assert run("score", where / "report.json").returncode == 8
