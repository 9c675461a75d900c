"""The gate's verdicts on all splits together and on each, and what each of them allows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgewhisper.evaluation import gate
from edgewhisper.evaluation.gate import GateVerdict, judge
from edgewhisper.evaluation.wer import Record
from edgewhisper_runtime.errors import GateFailedError, GateNotProvenError

WORDS = [
    "alpha",
    "bravo",
    "charlie",
    "delta",
    "echo",
    "foxtrot",
    "golf",
    "hotel",
    "india",
    "juliet",
]  # ten


def records(split: str, errors: list[int], speakers: int = 20) -> list[Record]:
    """Utterances of ten words, of which the first few are wrong."""
    reference = " ".join(WORDS)
    return [
        Record(
            f"{split}-{number}",
            f"{split} speaker {number % speakers}",
            reference,
            " ".join(["wrong"] * wrong + WORDS[wrong:]),
            4.0,
            1.0,
        )
        for number, wrong in enumerate(errors)
    ]


def judged(limit: float, /, synthetic: bool = False, **splits: list[int]) -> GateVerdict:
    """Judge variants that err so often where the baseline never does."""
    variant = {split: records(split, errors) for split, errors in splits.items()}
    baseline = {split: records(split, [0] * len(errors)) for split, errors in splits.items()}
    return judge(baseline, variant, limit, synthetic=synthetic)


@pytest.mark.parametrize(
    ("limit", "verdict"), [(30.0, "passed"), (12.0, "not proven"), (2.0, "failed")]
)
def test_passed_and_failed_are_shown(limit: float, verdict: str) -> None:
    found = judged(limit, a=[1, 0, 2, 1, 0, 1, 3, 0] * 10)
    assert found.verdict == verdict
    assert found.overall is not None
    assert found.overall.d == pytest.approx(10)
    low, high = found.overall.interval.low, found.overall.interval.high
    assert (verdict == "failed") is (low > limit)
    assert (verdict == "passed") is (high <= limit)


def test_splits_count_together_and_none_may_fail() -> None:
    good, doubtful, bad = [0] * 400, [1, 0, 0, 0, 0, 0, 0, 0] * 5, [2, 1, 1, 2] * 10
    together = judged(1.0, a=good, b=doubtful)
    assert together.splits["a"].verdict == "passed"
    assert together.splits["b"].verdict == "not proven"
    assert together.verdict == "passed"
    failed = judged(8.0, a=good, b=bad)
    assert failed.overall is not None
    assert failed.overall.interval.high < 8
    assert failed.splits["b"].verdict == failed.verdict == "failed"


def test_how_many_utterances_would_settle_it() -> None:
    found = judged(12.0, a=[1, 0, 2, 1, 0, 1, 3, 0] * 10)
    assert found.overall is not None
    ratio = (found.overall.interval.high - 10) / 2
    assert found.utterances_needed == pytest.approx(80 * ratio**2, abs=1)
    assert judged(10.0, a=[1, 0, 2, 1, 0, 1, 3, 0] * 10).utterances_needed is None
    nothing_worse = judged(0.5, a=[0] * 10)
    assert nothing_worse.verdict == "not proven"
    assert nothing_worse.utterances_needed == 74  # log(40) / 0.05 words of ten each


def test_an_error_of_one_speaker_counts_as_one() -> None:
    """Errors that are all one speaker's prove less than the same errors of many."""
    one = [5 if number % 20 == 0 else 0 for number in range(80)]
    spread = sorted(one)
    alone, shared = judged(10.0, a=one), judged(10.0, a=spread)
    assert alone.overall is not None
    assert shared.overall is not None
    assert alone.overall.interval.high > shared.overall.interval.high


def test_failed_is_never_accepted() -> None:
    found = judged(2.0, a=[1, 0, 2, 1, 0, 1, 3, 0] * 10)
    with pytest.raises(GateFailedError, match=r"changed by \+10\.00 points .* limit of 2 points"):
        gate.enforce(found, Path("reports"), accept_not_proven=True)


def test_not_proven_is_accepted_below_the_limit_only() -> None:
    below, above = (judged(limit, a=[1, 0, 2, 1, 0, 1, 3, 0] * 10) for limit in (12.0, 9.0))
    assert (below.verdict, above.verdict) == ("not proven", "not proven")
    assert "would settle it" in str(gate.enforce(below, Path("reports")))
    with pytest.raises(GateNotProvenError, match="--strict"):
        gate.enforce(below, Path("reports"), strict=True)
    with pytest.raises(GateNotProvenError, match=r"1\.00 points above the limit"):
        gate.enforce(above, Path("reports"))
    assert gate.enforce(above, Path("reports"), accept_not_proven=True)


def test_the_split_that_failed_is_named_with_its_own_figures() -> None:
    found = judged(8.0, a=[0] * 400, b=[2, 1, 1, 2] * 10)
    with pytest.raises(GateFailedError, match=r"on b WER changed by \+15\.00 points .* above the"):
        gate.enforce(found)
    assert "on a" not in gate.explain(found)


@pytest.mark.parametrize("limit", [0.0, 2.0, 5.5, 8.0, 10.0, 14.0, 30.0])
def test_failed_is_a_difference_shown(limit: float) -> None:
    """ "No difference shown" never stands beside "failed", nor "passed" beside a higher end."""
    found = judged(limit, a=[1, 0, 2, 1, 0, 1, 3, 0] * 10, b=[0, 0, 1, 0] * 10)
    assert found.overall is not None
    assert found.p_value is not None
    for part in (gate.PartVerdict(found.verdict, None, found.overall), *found.parts.values()):
        assert part.comparison is not None
        if part.verdict == "failed" and part.comparison.interval.low > limit:
            assert part.comparison.difference_shown
        if part.verdict == "passed":
            assert part.comparison.interval.high <= limit
    if found.verdict == "passed":
        assert found.p_value <= 0.025
    assert (found.overall.interval.high <= limit) is (found.p_value <= 0.025)


def test_both_intervals_and_the_speakers_are_told() -> None:
    overall = judged(10.0, a=[5 if number % 20 == 0 else 0 for number in range(80)]).overall
    assert overall is not None
    assert overall.over_utterances is not None
    assert overall.over_speakers is not None
    assert overall.speakers == 20
    assert overall.interval.high == overall.over_speakers.high > overall.over_utterances.high
    alone = judge(
        {"a": records("a", [0] * 4, 1)}, {"a": records("a", [1, 0, 0, 2], 1)}, 1.0
    ).overall
    assert alone is not None
    assert (alone.over_speakers, alone.speakers) == (None, 1)


def test_degenerate_data_proves_nothing() -> None:
    """One utterance, utterances all alike, and outputs all empty have no interval of no width."""
    assert judged(50.0, a=[0]).verdict == "not proven"
    alike = judged(9.9, a=[1] * 4)
    assert alike.overall is not None
    assert alike.overall.interval.low < alike.overall.d < alike.overall.interval.high
    silent = {"a": [replace(r, hypothesis="", problem="empty") for r in records("a", [0] * 40)]}
    empty = judge({"a": records("a", [0] * 40)}, silent, 0.5)
    assert empty.overall is not None
    assert (empty.overall.d, empty.verdict) == (100.0, "failed")
    assert judge(silent, silent, 0.5).overall is not None


def in_language(language: str, count: int, wrong: str) -> list[Record]:
    texts = {"en": "alpha bravo charlie delta", "ja": "今日はいい天気", "de": "eins zwei drei vier"}
    return [
        Record(f"{language}-{n}", f"{language} {n % 20}", texts[language],
               wrong or texts[language], 4.0, 1.0, language=language)
        for n in range(count)
    ]  # fmt: skip


def test_a_mixed_data_set_fails_with_one_language() -> None:
    """Words and characters together are the mixed error rate; one bad language cannot hide."""
    baseline = {"test": in_language("en", 400, "") + in_language("ja", 30, "")}
    variant = {"test": in_language("en", 400, "") + in_language("ja", 30, "今日はいい")}
    found = judge(baseline, variant, 4.0)
    assert found.overall is not None
    assert found.overall.metric == "MER"
    assert found.overall.d == pytest.approx(100 * 2 * 30 / (4 * 400 + 7 * 30))
    assert found.languages["en"].verdict == "passed"
    assert found.languages["ja"].verdict == found.verdict == "failed"
    japanese = found.languages["ja"].comparison
    assert japanese is not None
    assert japanese.metric == "CER"
    assert "on ja CER changed by" in gate.explain(found)
    same_unit = {"test": in_language("en", 4, "") + in_language("de", 4, "")}
    assert judge(same_unit, same_unit, 0.5).overall.metric == "WER"  # type: ignore[union-attr] # judged


def test_strict_wants_every_split() -> None:
    found = judged(1.0, a=[0] * 400, b=[1, 0, 0, 0, 0, 0, 0, 0] * 5)
    assert gate.enforce(found, Path("reports")) is None
    with pytest.raises(GateNotProvenError, match="on b"):
        gate.enforce(found, Path("reports"), strict=True)


def test_synthetic_speech_proves_nothing_and_refuses_nothing() -> None:
    found = judged(0.5, synthetic=True, smoke=[9] * 40)
    assert found.verdict == "not judged"
    assert "spoken by machines" in str(gate.enforce(found, Path("reports")))
    with pytest.raises(GateNotProvenError):
        gate.enforce(found, Path("reports"), strict=True)
