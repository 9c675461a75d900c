"""Reports say what the data says, escape what they quote, and can be scored again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from edgewhisper import pipeline, reports
from edgewhisper.checkpoints import Checkpoint
from edgewhisper.evaluation import datasets
from edgewhisper.evaluation.options import EvaluationOptions
from edgewhisper.evaluation.wer import summarize_errors
from edgewhisper.recipes import find_recipe
from edgewhisper.reports import Report, transcripts
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.bundle import Artefact
from edgewhisper_runtime.errors import DataError


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
    assert all(link.startswith("#") for link in parser.links)
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


@pytest.mark.parametrize("key", ["bundles", "records"])
@pytest.mark.parametrize("role", ["baseline", "variant"])
def test_a_report_is_of_both_roles(
    report: Report, key: str, role: str, tmp_path: Path, run: Run
) -> None:
    path = reports.write(report, tmp_path / "report") / "report.json"
    content = json.loads(path.read_text())
    del content[key][role]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"report\.json .*{key} must have the keys baseline and"):
        Report.read(path)
    assert run("score", path).returncode == 8


@pytest.mark.parametrize(
    "part",
    [
        lambda content: content["summary"],
        lambda content: content["gate"]["splits"],
        lambda content: content["records"]["baseline"],
        lambda content: content["records"]["variant"],
    ],
)
def test_a_report_has_the_same_splits_everywhere(
    report: Report, part: Callable[[Any], dict[str, Any]], tmp_path: Path
) -> None:
    path = reports.write(report, tmp_path / "report") / "report.json"
    content = json.loads(path.read_text())
    part(content).clear()
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="not of the same splits"):
        Report.read(path)


def doubled(records: list[dict[str, Any]]) -> None:
    records[1]["id"] = records[0]["id"]


def reworded(records: list[dict[str, Any]]) -> None:
    records[0]["hypothesis"] = "and more words than there were"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (doubled, "have not each utterance of smoke once"),
        (list.pop, "have not each utterance of smoke once"),
        (reworded, "are not those of its raw texts"),
    ],
)
def test_what_is_inconsistent_is_not_exported(
    report: Report,
    change: Callable[[list[dict[str, Any]]], object],
    message: str,
    tmp_path: Path,
    run: Run,
) -> None:
    path = reports.write(report, tmp_path / "report") / "report.json"
    content = json.loads(path.read_text())
    change(content["records"]["variant"]["smoke"])
    path.write_text(json.dumps(content))
    result = run("score", path, "--export", "trn", "--output", tmp_path / "trn")
    assert result.returncode == 8
    assert message in result.stderr
    assert not (tmp_path / "trn").exists()


def test_other_tools_read_an_export(report: Report, tmp_path: Path, run: Run) -> None:
    """What is written for the leaderboard and for sclite scores as the report does."""
    where = reports.write(report, tmp_path / "report") / "report.json"
    for kind in ("leaderboard", "trn", "model-card"):
        result = run("score", where, "--export", kind, "--output", tmp_path / kind)
        assert result.returncode == 0, result.stderr
        assert result.stdout.split() == [str(p) for p in sorted((tmp_path / kind).iterdir())][::-1]
    wer = report.summary["smoke"].variant
    (leaderboard,) = (tmp_path / "leaderboard").iterdir()
    line = json.loads(leaderboard.read_text().splitlines()[0])
    assert list(line) == ["audio_filepath", "duration", "time", "text", "pred_text"]
    hypothesis, reference = sorted((tmp_path / "trn").iterdir())
    for records in (
        transcripts.read(leaderboard),
        transcripts.read(hypothesis, reference),
        transcripts.read(where),
    ):
        assert summarize_errors(records).wer == wer.wer
    assert len(transcripts.read(leaderboard)) == 3
    from huggingface_hub import ModelCard

    (card,) = (tmp_path / "model-card").iterdir()
    (entry,) = ModelCard(card.read_text()).data.eval_results
    assert (entry.metric_type, entry.metric_value) == ("wer", round(wer.wer, 2))
    assert (entry.dataset_split, entry.dataset_args) == (
        "smoke", {"language": "en", "utterances": 3},
    )  # fmt: skip
    assert entry.dataset_name.endswith("smoke (3 utterances)")


def test_languages_and_rules_are_named(report: Report) -> None:
    """A Japanese report speaks of characters, in all three forms."""
    records = {
        role: {
            "smoke": tuple(
                replace(r, language="ja", reference="今日はいい天気です", hypothesis="今日はいい")
                for r in of_role["smoke"]
            )
        }
        for role, of_role in report.records.items()
    }
    summary, verdict = pipeline.judge(records, 0.5, synthetic=False)
    japanese = replace(report, records=records, summary=summary, gate=verdict)
    for text in (
        reports.to_text(japanese), reports.to_markdown(japanese), reports.to_html(japanese)
    ):  # fmt: skip
        assert "CER" in text
        assert "basic normalizer, split letters" in text
        assert "characters" in text
        assert "over utterances" in text
        assert "WER" not in text
    assert Report.from_json(japanese.to_json()) == japanese
