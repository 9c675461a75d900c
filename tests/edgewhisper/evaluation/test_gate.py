"""The gate's three verdicts, at and around their borders."""

from __future__ import annotations

import pytest

from edgewhisper.evaluation.gate import judge


def split(d: float, high: float, utterances: int = 100, not_worse: float = 0.9) -> dict:
    return {
        "d": d,
        "interval": {"low": d - (high - d), "high": high},
        "utterances": utterances,
        "share_not_worse": not_worse,
    }


@pytest.mark.parametrize(
    ("d", "high", "verdict"),
    [
        (0.1, 0.5, "passed"),
        (-1.0, 0.2, "passed"),
        (0.1, 0.51, "not proven"),
        (0.5, 0.9, "not proven"),
        (0.51, 0.52, "failed"),
        (3.0, 4.0, "failed"),
        (0.51, 5.0, "failed"),
    ],
)
def test_verdicts(d: float, high: float, verdict: str) -> None:
    assert judge({"test-clean": split(d, high)}, 0.5)["verdict"] == verdict


def test_the_worst_split_decides() -> None:
    good, open_, bad = split(0.0, 0.1), split(0.1, 0.9), split(2.0, 3.0)
    assert judge({"a": good, "b": good}, 0.5)["verdict"] == "passed"
    assert judge({"a": good, "b": open_}, 0.5)["verdict"] == "not proven"
    found = judge({"a": bad, "b": open_}, 0.5)
    assert found["verdict"] == "failed"
    assert found["splits"]["b"]["verdict"] == "not proven"


def test_how_many_utterances_would_settle_it() -> None:
    needed = judge({"a": split(0.1, 0.9, 100)}, 0.5)["splits"]["a"]["utterances_needed"]
    assert needed == 400  # half the interval takes four times the data
    assert judge({"a": split(0.5, 0.9)}, 0.5)["splits"]["a"]["utterances_needed"] is None


def test_where_nothing_became_worse_the_rule_of_three_says_how_many() -> None:
    found = judge({"a": split(0.0, 3.0, 10, not_worse=1.0)}, 0.5)
    assert found["verdict"] == "not proven"
    assert found["splits"]["a"]["utterances_needed"] == 60
    exactly = judge({"a": split(0.0, 3.0, 10, not_worse=1.0)}, 0.0)
    assert exactly["splits"]["a"]["utterances_needed"] is None
