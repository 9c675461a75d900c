"""Scores against hand-counted errors and an independent implementation."""

from __future__ import annotations

import json

import jiwer
import pytest

from edgewhisper.evaluation.comparison import compare, least_difference
from edgewhisper.evaluation.normalizing import normalizer
from edgewhisper.evaluation.wer import (
    ErrorCounts,
    GroupScore,
    Record,
    count_errors,
    summarize,
)
from edgewhisper_runtime.bundle import parse, to_json
from edgewhisper_runtime.errors import DataError


def record(
    name: str, reference: str, hypothesis: str, duration: float = 6.0, problem=None
) -> Record:
    return Record(name, name[0], reference, hypothesis, duration, 1.0, problem)


RECORDS = [
    record("1-1-0", "THE CAT SAT ON THE MAT", "The cat sat on the mat.", 3.0),
    record("1-1-1", "TWENTY ONE DOGS", "21 dogs!", 7.0),
    record("2-1-0", "A B C D", "a x c d e", 15.0),
    record("2-1-1", "HELLO THERE", "", 25.0, "empty"),
]


def test_errors_by_hand() -> None:
    counts = count_errors(RECORDS)
    assert [(c.substitutions, c.deletions, c.insertions, c.words) for c in counts] == [
        (0, 0, 0, 6),
        (0, 0, 0, 2),
        (1, 0, 1, 4),
        (0, 2, 0, 2),
    ]


def test_summary_is_corpus_level_and_broken_down() -> None:
    summary = summarize(RECORDS)
    assert summary.wer == pytest.approx(100 * 4 / 14)
    assert summary.interval.low <= summary.wer <= summary.interval.high
    assert (summary.substitutions, summary.deletions, summary.insertions) == (1, 2, 1)
    assert (summary.empty, summary.looping) == (1, 0)
    assert summary.by_speaker["1"] == GroupScore(wer=0.0, utterances=2, words=8)
    assert summary.by_speaker["2"].wer == pytest.approx(100 * 4 / 6)
    assert set(summary.by_duration) == {"under 5 s", "5 to 10 s", "10 to 20 s", "over 20 s"}
    assert summary.rtf == pytest.approx(4 / 50)


def test_equal_to_jiwer_on_the_whole_corpus() -> None:
    from whisper_normalizer.english import EnglishTextNormalizer

    normalize = EnglishTextNormalizer()
    expected = jiwer.wer(
        [normalize(r.reference) for r in RECORDS], [normalize(r.hypothesis) for r in RECORDS]
    )
    assert summarize(RECORDS).wer == pytest.approx(100 * expected)


@pytest.mark.parametrize(
    ("raw", "normalized"),
    [
        ("Mr. Smith won't pay $20", "mister smith will not pay $20"),
        ("colour, honour", "color honor"),
        ("um, I mean [noise] (laughs) yes", "i mean yes"),
        ("one hundred and five", "105"),
    ],
)
def test_the_normalizer_is_whispers(raw: str, normalized: str) -> None:
    assert count_errors([record("1-1-0", raw, normalized)])[0].errors == 0


def test_the_normalizer_is_named() -> None:
    assert normalizer().version == "0.1.15"
    assert len(bytes.fromhex(normalizer().sha256)) == 32


def test_comparison_is_paired() -> None:
    worse = [*RECORDS[:2], record("2-1-0", "A B C D", "x y c d e", 15.0), RECORDS[3]]
    compared = compare({"a": RECORDS}, {"a": worse})
    assert compared.d == pytest.approx(100 * 1 / 14)
    assert compared.share_not_worse == 0.75
    assert compared.share_same_text == 0.75
    assert not compared.difference_shown
    assert compare({"a": worse}, {"a": RECORDS}).d == pytest.approx(-compared.d)


def test_the_least_difference_that_records_so_far_allow() -> None:
    so_far = [record("1-1-0", "THE CAT SAT ON THE MAT", "x " * 11)]
    assert least_difference(RECORDS, so_far) == pytest.approx(100 * (11 - 4) / 14)
    assert least_difference(RECORDS, RECORDS) == 0
    assert least_difference(RECORDS, []) == float("-inf")


def test_order_does_not_matter() -> None:
    assert compare({"a": RECORDS}, {"a": RECORDS[::-1]}).d == 0


def test_what_cannot_be_compared() -> None:
    ids = ", ".join(f"{r.id} of a" for r in sorted(RECORDS[3:], key=lambda r: r.id))
    with pytest.raises(DataError, match=f"the second has no text of .* {ids}|{ids}"):
        compare({"a": RECORDS}, {"a": RECORDS[:3]})
    with pytest.raises(DataError, match="no words"):
        count_errors([record("1-1-0", "[noise]", "hello")])


def test_rates_are_computed_of_sums() -> None:
    total = ErrorCounts.total([ErrorCounts(1, 0, 0, 10), ErrorCounts(0, 0, 0, 90)])
    assert total.wer == pytest.approx(1)
    with pytest.raises(TypeError):
        _ = total + 0.5


@pytest.mark.parametrize(
    "text", ["می\u200cروم خانه", "ab " * 5000, "\x1b[31m", "a\u2028b", "\u202eb"]
)
def test_a_record_of_any_text_is_read_as_it_was_written(text: str) -> None:
    record = Record("می\u200cروم.wav", "s", text, text, 1.0, 0.5)
    assert parse(Record, json.loads(json.dumps(to_json(record)))) == record
    with pytest.raises(ValueError, match="half of a pair"):
        parse(Record, to_json(record) | {"hypothesis": "\ud800"})
