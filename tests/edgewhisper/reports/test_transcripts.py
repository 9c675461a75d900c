"""Other engines' transcripts are scored by the same rules, and reports are read by other tools."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import Run
from edgewhisper.evaluation.comparison import compare
from edgewhisper.evaluation.wer import summarize_errors
from edgewhisper.reports import transcripts
from edgewhisper_runtime.errors import DataError

LINES = [
    {"audio_filepath": "/far/away/84-121123-0001.flac", "duration": 3.5, "time": 0.2,
     "text": "HAVE YOU SEEN COLOUR", "pred_text": "Have you seen color?"},
    {"audio_filepath": "b/84-121123-0002.flac", "text": "TWENTY ONE", "pred_text": ""},
    {"audio_filepath": "c.wav", "text": "東京 です", "pred_text": "東京だ", "language": "Japanese"},
]  # fmt: skip


def write(path: Path, lines: list[object]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_json_lines(tmp_path: Path) -> None:
    records = transcripts.read(write(tmp_path / "nemo.jsonl", LINES))
    assert [r.id for r in records] == ["84-121123-0001", "84-121123-0002", "c"]
    assert [r.language for r in records] == ["en", "en", "ja"]
    assert (records[0].duration, records[0].seconds, records[1].duration) == (3.5, 0.2, 0.0)
    summary = summarize_errors(records)
    assert summary.metric == "MER"
    assert (summary.substitutions + summary.deletions, summary.words) == (3, 4 + 1 + 4)


def test_files_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    lines = [{"audio_filepath": f"{n}/a.wav", "text": "yes", "pred_text": "yes"} for n in "12"]
    assert [r.id for r in transcripts.read(write(tmp_path / "a.jsonl", lines))] == [
        "1/a.wav",
        "2/a.wav",
    ]
    named = [{"id": "x.1", "text": "yes", "pred_text": "yes"}]
    assert transcripts.read(write(tmp_path / "b.jsonl", named))[0].id == "x.1"


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    good = {"audio_filepath": "a.wav", "text": "yes", "pred_text": "yes"}
    lines: list[object] = [
        good,
        {k: v for k, v in good.items() if k != "pred_text"},
        good,
        [1],
        good | {"audio_filepath": "n.wav", "text": "[noise]"},
        good | {"audio_filepath": "d.wav", "duration": float("nan")},
        good | {"audio_filepath": "e.wav", "duration": True},
        good | {"audio_filepath": "f.wav", "text": 7},
        good | {"audio_filepath": "g.wav", "language": "klingon"},
    ]
    path = write(tmp_path / "bad.jsonl", lines)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes() + b"\n{\n\xff\n")
    with pytest.raises(DataError) as raised:
        transcripts.read(path)
    message = str(raised.value)
    for problem in (
        "bad.jsonl:2: no pred_text", "bad.jsonl:3: a.wav is in line 1 too",
        "bad.jsonl:4: is not a JSON object",
        "bad.jsonl:5: no words are left of the reference", "bad.jsonl:6: duration is nan",
        "bad.jsonl:7: duration is not a number",
        "bad.jsonl:8: text is not a text",
        "bad.jsonl:9: unknown language 'klingon'", "bad.jsonl:11: is not JSON",
        "bad.jsonl:12: is not UTF-8",
    ):  # fmt: skip
        assert problem in message
    assert "\n" not in message
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DataError, match="has no texts"):
        transcripts.read(tmp_path / "empty.jsonl")


def test_trn_pairs(tmp_path: Path) -> None:
    reference, hypothesis = tmp_path / "ref.trn", tmp_path / "hyp.trn"
    reference.write_text(";; comment\nthe cat sat (anna-1)\na (b) c (bo_2)\n")
    hypothesis.write_text("the bat sat (anna-1)\n(bo_2)\n")
    records = transcripts.read(hypothesis, reference)
    assert [(r.id, r.speaker, r.hypothesis) for r in records] == [
        ("anna-1", "anna", "the bat sat"),
        ("bo_2", "bo", ""),
    ]
    hypothesis.write_text("the bat sat (anna-1)\nmore (carl-3)\nno id\n{ um / @ } x (bo_2)\n")
    with pytest.raises(DataError) as raised:
        transcripts.read(hypothesis, reference)
    for problem in (
        "hyp.trn:3: has no (id) at the end", "hyp.trn:4: alternatives",
        f"ref.trn:3: {hypothesis} has no text of bo_2",
        f"hyp.trn:2: {reference} has no reference of carl-3",
    ):  # fmt: skip
        assert problem in str(raised.value)
    with pytest.raises(DataError, match="--reference"):
        transcripts.read(hypothesis)


def test_two_systems_are_compared_in_pairs(tmp_path: Path, run: Run) -> None:
    lines = [
        {"id": f"{n}", "speaker": f"s{n % 5}", "text": "one more word here", "pred_text": text}
        for n, text in enumerate(["one more word here", "one more word"] * 10)
    ]
    better = [line | {"pred_text": "one more word here"} for line in lines]
    first, second = write(tmp_path / "a.jsonl", lines), write(tmp_path / "b.jsonl", better)
    result = run("score", first, second, "--json")
    assert result.returncode == 0, result.stderr
    content = json.loads(result.stdout)
    expected = compare({"": transcripts.read(first)}, {"": transcripts.read(second)})
    overall = content["differences"]["b"]["overall"]
    assert overall["word"] == "better"
    assert overall["comparison"]["d"] == expected.d == pytest.approx(-12.5)
    assert overall["comparison"]["speakers"] == 5
    assert content["normalizer"]["name"] == "whisper-normalizer"
    told = run("score", first, second).stdout
    assert "b against a: word error rate -12.50 points" in told
    assert "over 5 speakers" in told
    assert "Whisper's English normalizer" in told
    assert run("score", first, write(tmp_path / "c.jsonl", lines[:3])).returncode == 8
