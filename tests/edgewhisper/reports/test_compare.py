"""Systems are compared figure by figure, and what cannot be compared is said by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import stored
from conftest import Run
from edgewhisper import reports
from edgewhisper.evaluation.comparison import compare
from edgewhisper.evaluation.conditions import Condition, ConditionedSplit
from edgewhisper.reports import Report, SweepResult
from edgewhisper.reports.differences import SystemComparison
from edgewhisper_runtime.bundle import describe_files, parse, to_json, write_manifest
from edgewhisper_runtime.measure.conditions import Conditions
from edgewhisper_runtime.measure.figures import ProfileReport, ProfileRun

Compared = Callable[..., dict[str, Any]]
FP32, INT8, INT4 = "fp32", "onnx-int8", "onnx-int4"


@pytest.fixture(scope="module")
def swept() -> SweepResult:
    """A stored sweep with a second run for each, a little slower, as it may have one only."""
    result = stored.swept("whisper-tiny.en")
    assert result.speed is not None
    runs = {name: (*of, *map(slower, of)) for name, of in result.speed.runs.items()}
    return replace(result, speed=replace(result.speed, runs=runs))


def slower(run: ProfileRun) -> ProfileRun:
    return replace(
        run,
        seconds=tuple(1.02 * seconds for seconds in run.seconds),
        peak_rss_bytes=run.peak_rss_bytes + 1_000_000,
    )


@pytest.fixture(scope="module")
def made(swept: SweepResult) -> dict[str, Report]:
    return {name: stored.report(swept, name) for name in (FP32, INT8, INT4)}


@pytest.fixture
def desk(
    made: dict[str, Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A directory of report.json files, by recipe."""
    for name, report in made.items():
        reports.write(report, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def compared(run: Run) -> Compared:
    """Run `compare --json` and return what it prints."""

    def call(*arguments: object) -> dict[str, Any]:
        done = run("compare", *arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return call


def write_profile(path: Path, profile: ProfileReport, **changes: object) -> Path:
    path.write_text(json.dumps(to_json(replace(profile, **changes))))
    return path


def test_each_figure_gets_a_word(
    made: dict[str, Report], desk: Path, compared: Compared, swept: SweepResult
) -> None:
    content = compared(*(desk / name / "report.json" for name in made))
    assert list(content["systems"]) == [made[name].variant.name for name in made]
    for name, difference in zip((INT8, INT4), content["differences"].values(), strict=True):
        expected = compare(made[FP32].records["variant"], made[name].records["variant"])
        overall = difference["overall"]
        assert overall["comparison"] == to_json(expected)
        shown = "worse" if expected.d > 0 else "better"
        assert overall["word"] == (shown if expected.difference_shown else "no difference shown")
        assert difference["splits"].keys() == made[FP32].records["variant"].keys()
        weights = difference["sizes"]["weights"]
        assert weights["word"] == "better"
        sizes = [swept.measured[each].weight_bytes for each in (name, FP32)]
        assert weights["ratio"] == pytest.approx(sizes[0] / sizes[1])
        speed = difference["speed"]["real-time factor"]
        assert speed["ratio"] == pytest.approx(swept.rtf(name) / swept.rtf(FP32), rel=0.01)
        assert speed["low"] < speed["ratio"] < speed["high"]
        assert speed["word"] == ("better" if speed["high"] < 1 else "no difference shown")


def test_a_model_against_itself_shows_no_difference(
    desk: Path, made: dict[str, Report], swept: SweepResult, run: Run, compared: Compared
) -> None:
    """The same texts as another tool writes them: normalized, in one file without splits."""
    report = desk / INT8 / "report.json"
    done = run("score", report, "--export", "leaderboard", "--output", desk / "engine")
    assert done.returncode == 0
    lines = desk / "engine.jsonl"
    lines.write_text("".join(path.read_text() for path in map(Path, done.stdout.split())))
    content = compared(report, lines)
    (difference,) = content["differences"].values()
    assert difference["overall"]["word"] == "no difference shown"
    assert difference["overall"]["comparison"]["d"] == 0
    assert difference["overall"]["comparison"]["speakers"] > 1  # known from the report
    assert {each["word"] for each in difference["speed"].values()} == {"not comparable"}
    profiles = [write_profile(desk / f"{n}.json", stored.profile(swept, INT8)) for n in (1, 2)]
    (difference,) = compared(*profiles)["differences"].values()
    assert difference["sizes"]["weights"]["word"] == "same"
    words = {each["word"] for each in difference["speed"].values()}
    assert words <= {"no difference shown", "same"}


def test_other_machines_are_not_compared(
    desk: Path, swept: SweepResult, run: Run, compared: Compared
) -> None:
    here = stored.profile(swept, INT8)
    first = write_profile(desk / "here.json", here)
    machine = replace(here.machine, cpu="Cortex-A76")
    pi = write_profile(desk / "pi.json", here, machine=machine)
    (difference,) = compared(first, pi)["differences"].values()
    assert {each["word"] for each in difference["speed"].values()} == {"not comparable"}
    assert difference["sizes"]["bundle"]["word"] == "same"
    told = run("compare", first, pi).stdout
    assert f"other machines ({here.machine.cpu} and Cortex-A76)" in told
    assert (
        f"{here.bundle} (pi) against {here.bundle} (here): " in told
    )  # one name for both: told apart by the path
    # an update of the system makes no other machine
    updated = replace(here.machine, system="Linux 99", python="3.14.1")
    (difference,) = compared(first, write_profile(desk / "u.json", here, machine=updated))[
        "differences"
    ].values()
    assert difference["speed"]["real-time factor"]["word"] != "not comparable"
    for changes, expected in (
        ({"threads": 1}, "threads: 2 and 1"),
        ({"files": ("other.wav", *here.files[1:])}, "other audio files"),
    ):
        told = run("compare", first, write_profile(desk / "c.json", here, **changes)).stdout
        assert expected in told


def test_other_utterances_are_named(
    desk: Path, made: dict[str, Report], run: Run, tmp_path: Path
) -> None:
    report = made[INT8]
    split, records = next(iter(report.records["variant"].items()))
    fewer = {role: of | {split: of[split][2:]} for role, of in report.records.items()}
    reports.write(replace(report, records=fewer), desk / "fewer")
    done = run("compare", desk / INT4 / "report.json", desk / "fewer" / "report.json")
    assert done.returncode == 0
    missing = ", ".join(f"{key} of {split}" for key in sorted(r.id for r in records[:2]))
    assert f"the second has no text of 2 utterances ({missing})" in done.stdout
    lines = [{"id": r.id, "text": r.reference, "pred_text": r.hypothesis} for r in records]
    lines[0]["text"] = "something else"
    for name, some in (("all", lines), ("some", lines[5:])):
        (desk / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in some))
    # nothing at all can be compared: the first has five more texts
    done = run("compare", desk / "all.jsonl", desk / "some.jsonl")
    assert done.returncode == 8
    assert "nothing could be compared" in done.stderr
    assert records[1].id in done.stderr
    done = run("compare", desk / INT4 / "report.json", desk / "all.jsonl")
    assert f"the references differ of 1 utterance ({records[0].id})" in done.stderr + done.stdout


def test_other_conditions_are_not_compared(
    desk: Path, made: dict[str, Report], compared: Compared
) -> None:
    conditions = {
        split: ConditionedSplit(split, Condition(telephone=True))
        for split in made[INT8].records["variant"]
    }
    reports.write(replace(made[INT8], conditions=conditions), desk / "telephone")
    content = compared(desk / INT4 / "report.json", desk / "telephone" / "report.json")
    (difference,) = content["differences"].values()
    assert difference["overall"]["word"] == "not comparable"
    assert "different conditions" in difference["overall"]["reason"]


def test_a_bundle_has_its_report(
    desk: Path, made: dict[str, Report], compared: Compared, run: Run
) -> None:
    bundle = desk / "bundle"
    reports.write(made[INT8], bundle)
    (bundle / "encoder.onnx").write_bytes(b"weights")
    manifest = replace(made[INT8].variant, files=describe_files(bundle))
    write_manifest(bundle, manifest)
    content = compared(bundle, desk / INT8 / "report.json")
    first, second = content["systems"].values()
    assert (first["kind"], second["kind"]) == ("bundle", "report")
    assert first["overall"] == second["overall"]
    assert first["sizes"]["bundle"] == sum(path.stat().st_size for path in bundle.iterdir())
    (bundle / "encoder.onnx").write_bytes(b"altered")
    assert run("compare", bundle, desk / INT8 / "report.json").returncode == 6


def test_runs_tell_how_sure_a_difference_is(
    desk: Path, swept: SweepResult, compared: Compared
) -> None:
    """With the interval of an independent computation, of three runs against two."""
    base = stored.profile(swept, FP32)

    def runs(*factors: float) -> tuple[Any, ...]:
        first = base.runs[0]
        return tuple(
            replace(first, seconds=tuple(factor * audio for audio in first.audio_seconds))
            for factor in factors
        )

    def speed(one: tuple[float, ...], two: tuple[float, ...]) -> dict[str, Any]:
        paths = [
            write_profile(desk / f"{name}.json", base, runs=runs(*factors))
            for name, factors in (("one", one), ("two", two))
        ]
        (difference,) = compared(*paths)["differences"].values()
        return difference["speed"]["real-time factor"]

    shown = speed((0.10, 0.11, 0.12), (0.05, 0.06))
    assert shown["word"] == "better"
    # log means -2.2100, -2.9046; pooled variance 0.0111 of 3 degrees of freedom, t = 3.1824
    assert shown["ratio"] == pytest.approx(0.4993, rel=1e-3)
    assert (shown["low"], shown["high"]) == pytest.approx((0.3677, 0.6780), rel=1e-3)
    assert speed((0.05, 0.06), (0.10, 0.11, 0.12))["word"] == "worse"
    assert speed((0.10, 0.12), (0.11, 0.12))["word"] == "no difference shown"
    single = speed((0.10,), (0.01,))
    assert single["word"] == "no difference shown"
    assert "no spread" in single["reason"]


def test_times_of_a_busy_machine_are_not_compared(
    desk: Path, swept: SweepResult, compared: Compared
) -> None:
    quiet, busy = stored.profile(swept, FP32), stored.profile(swept, INT8)
    busy_machine = Conditions(seconds=5, threads=2, usable_processors=2, other_processors=1.7)
    disturbed = replace(busy, runs=tuple(replace(r, conditions=busy_machine) for r in busy.runs))
    first = write_profile(desk / "quiet.json", quiet)
    (difference,) = compared(first, write_profile(desk / "busy.json", disturbed))[
        "differences"
    ].values()
    speed = difference["speed"]
    assert speed["real-time factor"]["word"] == "not comparable"
    assert "was disturbed" in speed["real-time factor"]["reason"]
    assert speed["peak memory, MB"]["word"] == "better"


def test_files_of_a_comparison(desk: Path, run: Run) -> None:
    done = run(
        "compare", desk / FP32 / "report.json", desk / INT4 / "report.json", "--output", "out"
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (desk / "out").iterdir()} == {
        "compare.json", "compare.md", "compare.html"
    }  # fmt: skip
    content = json.loads((desk / "out" / "compare.json").read_text())
    assert to_json(parse(SystemComparison, content)) == content
    assert content["command"].startswith("edgewhisper compare ")
    page = (desk / "out" / "compare.html").read_text()
    assert run("report", "out/compare.json", "--output", "again.html").returncode == 0
    assert (desk / "again.html").read_text() == page
    markdown = (desk / "out" / "compare.md").read_text()
    sentence = done.stdout.partition("\n")[0]
    assert sentence in markdown
    assert sentence in page
    assert "| real-time factor |" in markdown


def test_what_cannot_be_read(desk: Path, run: Run, swept: SweepResult) -> None:
    report = desk / INT8 / "report.json"
    (desk / "empty.json").write_text("{}")
    (desk / "profile.json").write_text('{"runs": []}')
    for other, message in (
        (report, "named twice"),
        (stored.results("whisper-tiny.en"), "holds a sweep or a comparison"),
        (desk / "empty.json", "cannot be scored"),
        (desk / "profile.json", "does not hold a profile"),
        (write_profile(desk / "none.json", stored.profile(swept, INT8), runs=()), "has no run"),
    ):
        done = run("compare", report, other)
        assert done.returncode == 8
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
    assert run("compare", report).returncode == 2
    assert "there is no bundle absent" in run("compare", report, "absent").stderr
