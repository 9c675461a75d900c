"""What a sweep's table says of many comparisons, on the sweeps that the documentation shows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from conftest import REPOSITORY
from edgewhisper import reports
from edgewhisper.evaluation.significance import holm
from edgewhisper.reports import SweepResult


@pytest.fixture(scope="module")
def result() -> SweepResult:
    sweep = reports.read_sweep(REPOSITORY / "docs" / "results" / "whisper-base")
    assert sweep is not None
    return sweep


def test_holm_marks_a_part_of_what_passed(result: SweepResult) -> None:
    passed = {n for n, row in result.measured.items() if row.gate and row.gate.verdict == "passed"}
    assert result.passed_by_holm < passed
    assert result.passed_by_holm == holm(result.p_values) & passed
    table = reports.to_table(result)
    for name in result.measured:
        line = next(line for line in table.splitlines() if line.startswith(f"| {name} |"))
        assert ("passed *" in line) is (name in result.passed_by_holm)
    judged = len(result.measured) - 1
    assert f"of {judged} up to {judged * 0.025:.1f} may pass that should not" in table


def test_one_recipe_is_not_many(result: SweepResult) -> None:
    names = ("fp32", "onnx-int8")
    alone = replace(result, rows={name: result.rows[name] for name in names})
    assert "Holm" not in reports.to_table(alone)
    assert alone.passed_by_holm == {"onnx-int8"}


def test_a_part_of_a_table_is_judged_as_the_whole(result: SweepResult) -> None:
    whole = reports.to_table(result).splitlines()
    part = reports.to_table(result, ["onnx-int8", "fp32"]).splitlines()
    assert [line.split(" | ")[0] for line in part[2:4]] == ["| fp32", "| onnx-int8"]
    assert set(part) < set(whole)
    assert len(whole) - len(part) == len(result.rows) - 2


def test_both_intervals_and_the_rule_are_in_the_table(result: SweepResult) -> None:
    table = reports.to_table(result)
    assert "over utterances" in table
    gate = result.measured["onnx-int8"].gate
    assert gate is not None
    assert gate.overall is not None
    assert gate.overall.speakers > 2
    assert f"over {gate.overall.speakers} speakers" in table
    assert "en: WER, Whisper's English normalizer" in table
