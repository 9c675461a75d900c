"""Pages need nothing else, can be read by anyone at any width, and say what the figures say."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from conftest import REPOSITORY, Run
from edgewhisper import pipeline
from edgewhisper.reports import Report, evaluation_page, plots, profile_page, sweep_page, view
from edgewhisper.reports.changes import marked
from edgewhisper.reports.results import SweepResult
from edgewhisper_runtime.bundle import DatasetRecord, File, Manifest, RecipeRecord, parse, to_json
from edgewhisper_runtime.measure.figures import ProfileReport, summarize

RESULTS = REPOSITORY / "docs" / "results" / "whisper-base" / "results.json"
VARIANT = "onnx-int8"
WIDTHS = (400, 900, 1400)
KINDS = ("evaluation", "sweep", "profile")


@pytest.fixture(scope="module")
def swept() -> SweepResult:
    return SweepResult.read(RESULTS)


@pytest.fixture(scope="module")
def report(swept: SweepResult) -> Report:
    """The comparison of one recipe of the sweep with its baseline, on 136 real utterances."""
    roles = {"baseline": "fp32", "variant": VARIANT}
    records = {
        role: {
            split: tuple(replace(r, seconds=swept.rtf(name) * r.duration) for r in of_split)
            for split, of_split in swept.records(name).items()
        }
        for role, name in roles.items()
    }
    summary, gate = pipeline.judge(records, 0.5, synthetic=False)
    speed = replace(swept.speed, runs={role: swept.runs(name) for role, name in roles.items()})
    return Report(
        created=swept.created,
        edgewhisper=swept.edgewhisper,
        dataset=DatasetRecord("LibriSpeech", synthetic=False),
        device="cpu",
        threads=2,
        language="en",
        machine=swept.machine,
        normalizer=swept.normalizer,
        bundles={role: manifest(swept, name) for role, name in roles.items()},
        summary=summary,
        gate=gate,
        records=records,
        command="edgewhisper build --model whisper-base --recipe <b>onnx-int8</b>",
        speed=speed,
    )


def manifest(swept: SweepResult, name: str) -> Manifest:
    row = swept.measured[name]
    weights, *others = sorted(row.files, key=lambda file: not file.endswith((".onnx", "tensors")))
    sizes = {weights: row.weight_bytes} | dict.fromkeys(others, 0)
    return Manifest(
        name=f"whisper-base-{name}",
        created=swept.created,
        backend="onnx",
        settings=row.settings,
        model=swept.model,
        recipe=parse(RecipeRecord, to_json(row.recipe)),
        census=row.census,
        libraries=row.libraries,
        files={file: File(sizes[file], row.files[file]) for file in row.files},
    )


@pytest.fixture(scope="module")
def profiled(swept: SweepResult) -> ProfileReport:
    runs = swept.runs("fp32")
    return ProfileReport(
        bundle="whisper-base-fp32",
        device="cpu",
        threads=2,
        language="en",
        summary=summarize(runs, 290_400_000, 293_000_000, 90_000_000),
        machine=swept.machine,
        libraries={"onnxruntime": "1.32"},
        installed={"onnxruntime": 70_000_000, "numpy": 19_960_000, "click": 40_000},
        roofline=None,
        files=swept.speed.files,
        runs=runs,
    )


@pytest.fixture(scope="module")
def pages(report: Report, swept: SweepResult, profiled: ProfileReport) -> dict[str, str]:
    made = evaluation_page.page(report), sweep_page.page(swept), profile_page.page(profiled)
    return dict(zip(KINDS, map(view.render, made), strict=True))


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


def test_a_shared_part_says_so(pages: dict[str, str]) -> None:
    outline = Outline(pages["evaluation"])
    assert "shared with embedding" in outline.text
    for page in pages.values():
        assert not re.search(r"\b0\.0 (MB|kB)", page)


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
    assert "fleece his and zora" in pages["evaluation"]
    assert "<mark>fleas,</mark>" in pages["evaluation"]
    assert "&lt;b&gt;onnx-int8&lt;/b&gt;" in pages["evaluation"]


def test_a_sweep_names_the_smallest_that_passed(swept: SweepResult) -> None:
    page = sweep_page.page(swept)
    passed = {n: r for n, r in swept.measured.items() if r.gate and r.gate.verdict == "passed"}
    smallest = min(passed, key=lambda name: passed[name].weight_bytes)
    assert page.sentence.startswith(f"{smallest} is the smallest recipe")
    assert page.verdict.startswith(f"{len(passed)} of ")


def test_stored_results_become_pages(
    report: Report, profiled: ProfileReport, run: Run, tmp_path: Path
) -> None:
    shutil.copyfile(RESULTS, tmp_path / "results.json")
    (tmp_path / "report.json").write_text(json.dumps(report.to_json()))
    (tmp_path / "profile.json").write_text(json.dumps(to_json(profiled)))
    for name in ("results", "report", "profile"):
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
