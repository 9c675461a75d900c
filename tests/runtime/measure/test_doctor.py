"""The doctor: what a machine can run, each problem with its remedy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import Run
from edgewhisper_runtime.measure import doctor
from edgewhisper_runtime.measure.doctor import Finding


def test_it_shows_this_machine(run: Run) -> None:
    shown = run("doctor", "--json", script="edgewhisper-runtime")
    findings = {row["name"]: row for row in json.loads(shown.stdout)}
    assert {"processor", "instruction sets", "memory", "onnxruntime", "energy"} <= findings.keys()
    problems = [row for row in findings.values() if row["problem"]]
    assert all(row["remedy"] for row in problems)
    assert shown.returncode == bool(problems)
    text = run("doctor", script="edgewhisper-runtime")
    assert findings["processor"]["value"] in text.stdout


@pytest.mark.parametrize(
    ("architecture", "isa", "words"),
    [
        ("aarch64", ("asimd",), "without dotprod the decoder's 8-bit products run in float32"),
        ("aarch64", ("asimd", "asimddp"), "run in integers"),
        ("x86_64", ("avx2", "fma"), "without VNNI"),
        ("x86_64", ("avx2", "avx_vnni"), "run in integers"),
        ("riscv64", (), "no measurement"),
    ],
)
def test_instruction_sets_are_explained(
    architecture: str, isa: tuple[str, ...], words: str
) -> None:
    assert words in doctor.arithmetic(architecture, isa).note


@pytest.mark.parametrize(
    ("architecture", "libc", "problem"),
    [("x86_64", "glibc", ""), ("aarch64", "", "musl"), ("armv7l", "glibc", "32-bit ARM")],
)
def test_platforms_without_wheels_are_problems(architecture: str, libc: str, problem: str) -> None:
    finding = doctor.platform_support(architecture, libc, "Linux")
    assert finding.is_problem == bool(problem)
    assert problem in finding.remedy


def test_a_library_below_its_floor_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A distribution that asks for what is not there, installed where Python looks first."""
    info = tmp_path / "needy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: needy\nVersion: 1.0\nRequires-Dist: onnxruntime>=999\n"
        "Requires-Dist: not-there-at-all>=2\nRequires-Dist: click\n"
        "Requires-Dist: nor-this; extra == 'more'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    found = {finding.name: finding for finding in doctor.libraries("needy")}
    assert found.keys() == {"onnxruntime", "not-there-at-all", "click"}
    assert found["onnxruntime"].remedy == "pip install 'onnxruntime>=999'"
    assert found["not-there-at-all"].value == "not installed"
    assert not found["click"].is_problem


def test_problems_are_marked_and_counted() -> None:
    text = doctor.to_text([Finding("memory", "1 GB"), Finding("disk", "full", remedy="Empty it.")])
    assert text.splitlines()[1:] == [
        "! disk    full",
        "          remedy: Empty it.",
        "",
        "1 problem.",
    ]
