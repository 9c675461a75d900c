"""Pages need nothing else, can be read by anyone at any width, and say what the figures say."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

import stored
from conftest import Run
from edgewhisper import api, reports, sweeps
from edgewhisper.evaluation.wer import GroupScore
from edgewhisper.reports import (
    Report,
    SweepResult,
    SystemComparison,
    compare_page,
    evaluation_page,
    exchange,
    plots,
    profile_page,
    sweep_page,
    view,
    wording,
)
from edgewhisper.reports.changes import marked
from edgewhisper_runtime.bundle import to_json
from edgewhisper_runtime.measure.conditions import Conditions
from edgewhisper_runtime.measure.figures import ProfileReport, ProfileRun, undisturbed

MODEL = "whisper-base"
VARIANT = "onnx-int8"
WIDTHS = (400, 900, 1400)
KINDS = ("evaluation", "sweep", "profile", "comparison")


@pytest.fixture(scope="module")
def swept() -> SweepResult:
    return stored.swept(MODEL)


@pytest.fixture(scope="module")
def report(swept: SweepResult) -> Report:
    """The comparison of one recipe of the sweep with its baseline, on real utterances."""
    command = "edgewhisper build --model whisper-base --recipe <b>onnx-int8</b>"
    return replace(stored.report(swept, VARIANT), command=command)


@pytest.fixture(scope="module")
def profiled(swept: SweepResult) -> ProfileReport:
    return stored.profile(swept, "fp32")


@pytest.fixture(scope="module")
def comparison(
    report: Report, profiled: ProfileReport, tmp_path_factory: pytest.TempPathFactory
) -> SystemComparison:
    """A report, another engine's transcripts (its own), and a profile on another machine."""
    where = tmp_path_factory.mktemp("compared")
    reports.write(report, where)
    written = exchange.WRITERS["leaderboard"](report, "baseline", where)
    lines = where / "engine.jsonl"
    lines.write_text("".join(path.read_text() for path in written))
    machine = replace(profiled.machine, cpu="Cortex-A76")
    (where / "pi.json").write_text(json.dumps(to_json(replace(profiled, machine=machine))))
    return api.compare([where / "report.json", lines, where / "pi.json"])


@pytest.fixture(scope="module")
def pages(
    report: Report, swept: SweepResult, profiled: ProfileReport, comparison: SystemComparison
) -> dict[str, str]:
    made = (
        evaluation_page.page(report),
        sweep_page.page(swept),
        profile_page.page(profiled),
        compare_page.page(comparison),
    )
    return dict(zip(KINDS, map(view.render, made), strict=True))


def test_a_profile_of_a_busy_machine_has_no_verdict(profiled: ProfileReport) -> None:
    busy = Conditions(seconds=5, threads=2, usable_processors=2, other_processors=1.7)
    runs = tuple(replace(run, conditions=busy) for run in profiled.runs)
    page = profile_page.page(replace(profiled, runs=runs))
    assert (page.verdict, page.tone) == ("the machine was busy", "open")
    assert "Measure again on a quiet, cool machine." in page.notes[0]
    one = profile_page.page(replace(profiled, runs=(profiled.runs[0], runs[0])))
    assert (one.verdict, "one run" in one.sentence) == ("faster than speech", True)
    assert "left out of the figures" in one.notes[0]


def test_runs_of_a_busy_machine_do_not_count(swept: SweepResult) -> None:
    """The pages of an evaluation and of a sweep leave out the run that the sweep's table does."""
    busy = Conditions(seconds=5, threads=2, usable_processors=2, other_processors=1.7)
    quiet = swept.runs(VARIANT)[0]
    slow = replace(quiet, conditions=busy, seconds=tuple(100 * s for s in quiet.seconds))

    def with_runs(*runs: ProfileRun) -> SweepResult:
        others = {name: tuple(undisturbed(of)) for name, of in swept.speed.runs.items()}
        return replace(swept, speed=replace(swept.speed, runs=others | {VARIANT: runs}))

    disturbed = with_runs(slow, quiet)
    evaluation = evaluation_page.page(stored.report(disturbed, VARIANT))
    pages = view.render(evaluation), view.render(sweep_page.page(disturbed))
    assert f"{quiet.rtf:.3f}" in [figure.value for figure in evaluation.figures]
    for page in pages:
        assert f"{quiet.rtf:.3f}" in page
        assert f"{slow.rtf:.3f}" not in page
        assert "1 run while the machine was busy with other work does not count" in page
    busy_only = view.render(sweep_page.page(with_runs(slow)))
    assert "machine busy" in busy_only
    assert f"{slow.rtf:.3f}" not in busy_only


class Outline(HTMLParser):
    """The elements of a page: their tags and attributes, and the cells of each row of a table."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.rows: list[list[tuple[str, dict[str, str]]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.elements.append((tag, given))
        if tag == "tr":
            self.rows.append([])
        if tag in {"th", "td"}:
            self.rows[-1].append((tag, given))
        if tag not in {"meta", "link", "path", "use", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [given for name, given in self.elements if name == tag]


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_needs_nothing_else(pages: dict[str, str], kind: str) -> None:
    outline = Outline(pages[kind])
    assert not {"script", "link", "img", "iframe", "object"} & {t for t, _ in outline.elements}
    for _, given in outline.elements:
        for name in ("src", "href", "xlink:href", "style"):
            assert not re.search(r"//|url\((?!#)", given.get(name, "")), given
    assert "@import" not in pages[kind]
    assert not re.search(r"url\((?!#)", pages[kind])
    assert re.findall(r"https?://", pages[kind]) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_can_be_read_by_anyone(pages: dict[str, str], kind: str) -> None:
    outline = Outline(pages[kind])
    assert outline.all("html")[0]["lang"] == "en"
    assert "width=device-width" in outline.all("meta")[1]["content"]
    headings = [int(tag[1]) for tag, _ in outline.elements if re.fullmatch(r"h[1-6]", tag)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(headings))
    assert len(outline.all("caption")) == len(outline.all("table")) > 0
    width = 0
    for row in outline.rows:
        if all(given.get("scope") == "col" for _, given in row):
            width = len(row)
        else:
            (tag, given), *cells = row
            assert (tag, given["scope"]) == ("th", "row")
            assert {tag for tag, _ in cells} <= {"td"}
        assert len(row) == width
    pictures = [given for given in outline.all("div") if given.get("role") == "img"]
    assert len(pictures) == len(outline.all("svg")) > 0
    assert all(len(given["aria-label"]) > 20 for given in pictures)
    ids = [given["id"] for _, given in outline.elements if "id" in given]
    assert len(ids) == len(set(ids))


def luminance(color: str) -> float:
    """The relative luminance of WCAG 2.2."""
    channels = (int(color[place : place + 2], 16) / 255 for place in (1, 3, 5))
    linear = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(first: str, second: str) -> float:
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast(theme: str) -> None:
    palette = view.PALETTES[theme]
    for ground in ("ground", "panel"):
        for role in ("text", "quiet", "good", "bad", "open"):
            assert contrast(palette[role], palette[ground]) >= 4.5, (role, ground)
    assert contrast(palette["marked-text"], palette["marked"]) >= 4.5
    for color in (*plots.SERIES, plots.LIMIT):
        assert contrast(color, palette["ground"]) >= 3, color


def test_an_evaluation_begins_with_its_verdict(report: Report, pages: dict[str, str]) -> None:
    page = evaluation_page.page(report)
    assert page.verdict == "gate passed"
    assert page.sentence.startswith(
        "whisper-base by onnx-int8 is 74 % smaller than fp32 (74.3 MB instead of 290.4 MB), "
    )
    assert "times as fast, peak memory" in page.sentence
    assert "is proven to be at most 0.5 points above that of fp32, measured as " in page.sentence
    assert f"{page.sentence}</p>" in pages["evaluation"].replace("&#39;", "'")
    failed = evaluation_page.page(
        replace(report, gate=replace(report.gate, verdict="failed"), speed=None)
    )
    assert "is proven to be more than 0.5 points above" in failed.sentence
    assert "memory" not in failed.sentence  # it was not measured


def test_no_difference_is_called_none() -> None:
    assert wording.faster(0.05, 0.051) == "as fast"
    assert wording.faster(0.05, 0.1) == "slower, 0.50 times as fast"
    assert wording.sized(100, 100, "fp32") == "as large as fp32"
    assert wording.sized(100, 50, "fp32") == "50 % smaller than fp32"


def test_names_from_the_data_are_drawn_as_they_are() -> None:
    names = ["$5_$", "a$b$c", "<b>&", "100 %"]
    drawn = plots.pairs(dict.fromkeys(names, (1.0, 2.0)), "WER %, $_$")
    assert all(escape(name, quote=False) in drawn for name in [*names, "WER %, $_$"])


def test_of_many_speakers_those_that_changed_most_are_drawn(report: Report) -> None:
    split, summary = next(iter(report.summary.items()))
    group = next(iter(summary.baseline.by_speaker.values()))

    def spoken(changes: float) -> dict[str, GroupScore]:
        return {f"s{n:03}": replace(group, wer=10 + changes * n / 100) for n in range(400)}

    many = replace(
        summary,
        baseline=replace(summary.baseline, by_speaker=spoken(0)),
        variant=replace(summary.variant, by_speaker=spoken(1)),
    )
    page = evaluation_page.page(replace(report, summary={split: many}))
    (section,) = (each for each in page.sections if each.title == "By speaker")
    plot, table = section.blocks
    assert "Drawn: the 20 that changed most." in plot.description
    assert [name in plot.svg for name in ("s399", "s380", "s379")] == [True, True, False]
    assert "s000" in str(table)


def test_a_shared_part_says_so(pages: dict[str, str]) -> None:
    outline = Outline(pages["evaluation"])
    assert "shared with embedding" in outline.text
    for page in pages.values():
        assert not re.search(r"\b0\.0 (MB|kB)", page)


def one_replaced(before: str, after: str) -> tuple[str, str] | None:
    """Return the words of two texts that alone differ, by more than case and punctuation."""
    words = before.split(), after.split()
    if len(words[0]) != len(words[1]):
        return None
    pairs = [(was, now) for was, now in zip(*words, strict=True) if was != now]
    plain = {word.strip(",.").lower() for pair in pairs for word in pair}
    letters = all(word.isalpha() for word in plain)
    return pairs[0] if len(pairs) == 1 and len(plain) == 2 and letters else None


def test_changed_words_are_marked_in_place(report: Report, pages: dict[str, str]) -> None:
    before, after = marked("He has a black Cat.", "he has the cat, now")
    assert [(words.text, words.marked) for words in before] == [
        ("He has", False),
        ("a black", True),
        ("Cat.", False),
    ]
    assert [(words.text, words.marked) for words in after] == [
        ("he has", False),
        ("the", True),
        ("cat,", False),
        ("now", True),
    ]
    assert marked("", "so") == ((), (view.Words("so", marked=True),))
    page = html.unescape(pages["evaluation"])
    before_all, after_all = (stored.swept(MODEL).measured[name].texts for name in ("fp32", VARIANT))
    replaced = [
        pair
        for split, texts in before_all.items()
        for utterance, text in texts.items()
        if (pair := one_replaced(text, after_all[split][utterance]))
    ]
    assert replaced
    for was, now in replaced:
        assert f"<mark>{was}</mark>" in page
        assert f"<mark>{now}</mark>" in page
    assert "&lt;b&gt;onnx-int8&lt;/b&gt;" in pages["evaluation"]


def test_a_sweep_names_the_smallest_that_passed(swept: SweepResult) -> None:
    page = sweep_page.page(swept)
    passed = {n: r for n, r in swept.measured.items() if r.gate and r.gate.verdict == "passed"}
    smallest = min(passed, key=lambda name: passed[name].weight_bytes)
    assert page.sentence.startswith(f"{smallest} is the smallest recipe")
    assert page.verdict.startswith(f"{len(passed)} of ")


def test_a_sweep_tells_what_many_comparisons_do(swept: SweepResult, pages: dict[str, str]) -> None:
    cells = Outline(pages["sweep"]).text
    for name in swept.passed_by_holm:
        assert re.search(rf"{re.escape(name)}\s+.*\s+passed \*", cells), name
    assert f"{len(swept.passed_by_holm)}, marked *, pass with Holm's correction too" in cells
    assert re.search(r"over utterances [-+]\S+ to \S+, over \d+ speakers", cells)


def test_a_sweep_in_characters_speaks_of_characters(swept: SweepResult) -> None:
    japanese = {
        split: {key: replace(u, language="ja") for key, u in utterances.items()}
        for split, utterances in swept.utterances.items()
    }
    page = view.render(sweep_page.page(sweeps.rescore(replace(swept, utterances=japanese))))
    assert "Character error rate on test-clean" in page
    assert not re.search(r"[Ww]ord error rate|WER", page)


def test_stored_results_become_pages(
    report: Report,
    profiled: ProfileReport,
    comparison: SystemComparison,
    run: Run,
    tmp_path: Path,
) -> None:
    shutil.copyfile(stored.results(MODEL), tmp_path / "results.json")
    (tmp_path / "report.json").write_text(json.dumps(report.to_json()))
    (tmp_path / "profile.json").write_text(json.dumps(to_json(profiled)))
    (tmp_path / "compare.json").write_text(json.dumps(to_json(comparison)))
    for name in ("results", "report", "profile", "compare"):
        done = run("report", tmp_path / f"{name}.json")
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == str(tmp_path / f"{name}.html")
        assert (tmp_path / f"{name}.html").read_text().startswith("<!doctype html>")
    assert Report.read(tmp_path / "report.json") == report
    for content in ("[]", "{}", "nothing"):
        (tmp_path / "other.json").write_text(content)
        assert run("report", tmp_path / "other.json").returncode == 8


MEASURE = """<!doctype html><body style="margin:0">
<iframe src="page.html" style="border:0; width:{width}px; height:2000px"></iframe>
<pre id="out"></pre>
<script>
document.querySelector("iframe").onload = (event) => {{
  const page = event.target.contentDocument, out = {{}};
  out.width = page.documentElement.scrollWidth;
  out.cut = [...page.querySelectorAll("svg text")].filter((text) => {{
    const box = text.getBoundingClientRect(), frame = text.closest("svg").getBoundingClientRect();
    return box.left < frame.left - 2 || box.right > frame.right + 2;
  }}).map((text) => text.textContent);
  out.smallest = Math.min(...[...page.querySelectorAll("p, td, th, dd")].map(
    (element) => parseFloat(page.defaultView.getComputedStyle(element).fontSize)));
  document.querySelector("#out").textContent = JSON.stringify(out);
}};
</script>"""


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_in_a_browser_it_fits_any_width(
    pages: dict[str, str], kind: str, width: int, tmp_path: Path
) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium is installed to look at the page with")
    (tmp_path / "page.html").write_text(pages[kind])
    (tmp_path / "measure.html").write_text(MEASURE.format(width=width))
    shown = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000",
            "--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}",
            "--dump-dom", f"file://{tmp_path / 'measure.html'}",
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = re.search(r'<pre id="out">(.*?)</pre>', shown.stdout)
    assert found, shown.stderr
    measured = json.loads(found[1].replace("&gt;", ">").replace("&lt;", "<"))
    assert measured["width"] <= width
    assert measured["cut"] == []
    assert measured["smallest"] >= 13
