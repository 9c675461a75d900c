"""Other engines' transcripts are scored by the same rules, and reports are read by other tools."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import REPOSITORY, Run
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
    assert [r.id for r in records] == [line["audio_filepath"] for line in LINES]
    assert [r.problem for r in records] == [None, "empty", None]
    assert [r.language for r in records] == ["en", "en", "ja"]
    assert (records[0].duration, records[0].seconds, records[1].duration) == (3.5, 0.2, 0.0)
    summary = summarize_errors(records)
    assert (summary.empty, summary.looping) == (1, 0)
    assert summary.metric == "MER"
    assert (summary.substitutions + summary.deletions, summary.words) == (3, 4 + 1 + 4)


def test_a_text_that_repeats_itself_is_counted(tmp_path: Path) -> None:
    lines = [
        {"id": "a", "text": "so it was", "pred_text": "so it was" + " and so on" * 9},
        {"id": "b", "text": "no, no, no", "pred_text": "no, no, no"},
    ]
    assert summarize_errors(transcripts.read(write(tmp_path / "a.jsonl", lines))).looping == 1


def test_audio_in_another_place_is_the_same_utterance(tmp_path: Path, run: Run) -> None:
    """Ids of a report's utterances are paths below the data; other machines have other paths."""
    names = ["calls/a.1.flac", "calls/b.flac", "calls/c.WAV"]
    line = {"text": "one more word", "pred_text": "one more word"}
    ours = [{"audio_filepath": name, **line} for name in names]
    first = write(tmp_path / "ours.jsonl", ours)
    for number, place in enumerate(("/mnt/{}", "C:\\data\\{}", "{}")):
        theirs = [{"audio_filepath": place.format(Path(name).name), **line} for name in names]
        other = write(tmp_path / f"theirs{number}.jsonl", theirs)
        result = run("score", first, other, "--json")
        assert result.returncode == 0, result.stderr
    bare = write(tmp_path / "bare.jsonl", [{"id": Path(n).stem, **line} for n in names])
    assert run("score", first, bare).returncode == 0
    apart = [{"audio_filepath": f"{n}/a.wav", **line} for n in "123"]
    result = run("score", write(tmp_path / "apart.jsonl", apart), first)
    assert result.returncode == 8
    assert "1/a.wav" in result.stderr
    again = write(tmp_path / "again.jsonl", apart)
    assert run("score", tmp_path / "apart.jsonl", again).returncode == 0


def test_a_report_is_compared_with_what_was_exported_of_it(tmp_path: Path, run: Run) -> None:
    stored = REPOSITORY / "docs" / "results" / "languages" / "german.json"
    exported = run("score", stored, "--export", "leaderboard", "--output", tmp_path)
    result = run("score", exported.stdout.strip(), stored, "--language", "de", "--json")
    assert result.returncode == 0, result.stderr
    ((difference),) = json.loads(result.stdout)["differences"].values()
    assert difference["overall"]["comparison"]["d"] == 0


def test_a_split_of_any_name_is_exported_into_the_directory(tmp_path: Path, run: Run) -> None:
    stored = REPOSITORY / "docs" / "results" / "languages" / "german.json"
    content = json.loads(stored.read_text())
    for part in (content["summary"], content["gate"]["splits"], *content["records"].values()):
        part["x/../../../outside"] = part.pop(next(iter(part)))
    report = tmp_path / "report.json"
    report.write_text(json.dumps(content))
    for kind in ("trn", "leaderboard", "model-card"):
        done = run("score", report, "--export", kind, "-o", tmp_path / "deep" / kind, "--json")
        assert done.returncode == 0, done.stderr
        paths = [Path(path) for path in json.loads(done.stdout)]
        assert {path.parent for path in paths} == {tmp_path / "deep" / kind}
        assert all(path.is_file() for path in paths)


def test_exports_of_several_data_sets_lie_together(tmp_path: Path, run: Run) -> None:
    stored = REPOSITORY / "docs" / "results" / "languages"
    for kind, files in (("trn", 2), ("leaderboard", 1), ("model-card", 1)):
        for language in ("german", "mandarin"):
            report = stored / f"{language}.json"
            done = run("score", report, "--export", kind, "-o", tmp_path / kind)
            assert done.returncode == 0, done.stderr
        assert len([*(tmp_path / kind).iterdir()]) == 2 * files


def test_no_two_utterances_have_one_id_in_a_trn_file(tmp_path: Path, run: Run) -> None:
    stored = REPOSITORY / "docs" / "results" / "languages" / "german.json"
    content = json.loads(stored.read_text())
    names = ["a (1)", "a [1]", "a_(1)", "a%20(1)"]
    for records in content["records"].values():
        for of_split in records.values():
            for record, name in zip(of_split, names, strict=False):
                record["id"] = name
    report = tmp_path / "report.json"
    report.write_text(json.dumps(content))
    done = run("score", report, "--export", "trn", "-o", tmp_path / "trn", "--json")
    assert done.returncode == 0, done.stderr
    reference, hypothesis = (Path(path) for path in json.loads(done.stdout))
    result = run("score", hypothesis, "--reference", reference, "--language", "de")
    assert result.returncode == 0, result.stderr


def test_every_report_in_the_docs_has_the_figures_of_its_texts(run: Run) -> None:
    stored = sorted((REPOSITORY / "docs" / "results" / "languages").glob("*.json"))
    assert stored
    for path in stored:
        done = run("score", path)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a.jsonl", "--reference", "r.trn"), "'--reference' changes nothing without a trn file"),
        (("report.json", "--language", "fr"), "'--language' changes nothing without transcripts"),
        (("report.json", "--normalizer", "basic"), "'--normalizer' changes nothing"),
        (("report.json", "report.json", "--normalizer", "basic"), "'--normalizer' changes nothing"),
        (("report.json", "--export", "trn", "--language", "fr"), "'--language' changes nothing"),
    ],
)
def test_options_that_change_nothing_are_refused(
    tmp_path: Path, run: Run, arguments: tuple[str, ...], message: str
) -> None:
    write(tmp_path / "a.jsonl", LINES)
    (tmp_path / "r.trn").write_text("yes (a-1)\n")
    stored = REPOSITORY / "docs" / "results" / "languages" / "german.json"
    (tmp_path / "report.json").symlink_to(stored)
    named = [tmp_path / each if "." in each else each for each in arguments]
    result = run("score", *named)
    assert result.returncode == 2
    assert message in result.stderr


def test_the_normalizer_that_is_named_decides_what_is_left(tmp_path: Path) -> None:
    path = write(tmp_path / "uh.jsonl", [{"id": "a", "text": "uh", "pred_text": "uh"}])
    with pytest.raises(DataError, match=r"uh\.jsonl:1: no words are left"):
        transcripts.read(path)
    (record,) = transcripts.read(path, normalizer="basic")
    assert record.normalizer == "basic"
    german = write(
        tmp_path / "de.jsonl", [{"id": "a", "text": "uh", "pred_text": "", "lang": "de"}]
    )
    with pytest.raises(DataError, match=r"de\.jsonl:1: no words are left"):
        transcripts.read(german, normalizer="english")


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
        good | {"audio_filepath": "f.wav", "text": [7]},
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
        "bad.jsonl:5: no words are left of the reference", "bad.jsonl:6: duration is not from 0 to",
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


def test_what_other_tools_write(tmp_path: Path, run: Run) -> None:
    numbers = {"id": 1, "speaker": 1089, "text": "one", "pred_text": "one", "duration": 10**400}
    path = write(tmp_path / "a.jsonl", [numbers])
    with pytest.raises(DataError, match=r"a\.jsonl:1: duration is not from 0 to"):
        transcripts.read(path)
    (record,) = transcripts.read(write(path, [numbers | {"duration": 2}]))
    assert (record.id, record.speaker, record.duration) == ("1", "1089", 2.0)
    with pytest.raises(DataError, match="a number of more than 4300 digits"):
        transcripts.read(write(path, [numbers | {"duration": 2, "text": "1" * 5000}]))
    path.write_text(json.dumps({"audio_filepath": "a.wav", "pred_text": "one"}))
    assert "a.jsonl:1: no text" in run("score", path).stderr
    path.write_text('{"a":' * 200_000)
    done = run("score", path)
    assert (done.returncode, "is not JSON" in done.stderr) == (8, True)
    upper = [tmp_path / "R.TRN", tmp_path / "H.TRN"]
    upper[0].write_text("one (a-1)\none (a-2)\n")
    upper[1].write_text("one (a-1)\n@ (a-2)\n")
    done = run("score", upper[1], "--reference", upper[0])
    assert "H.TRN:2: alternatives in braces and @ are not scored here. Mend" in done.stderr


def test_trn_pairs(tmp_path: Path) -> None:
    reference, hypothesis = tmp_path / "ref.trn", tmp_path / "hyp.trn"
    reference.write_text(";; comment\nthe cat sat (anna-1)\na (b) c (bo_2)\n")
    hypothesis.write_text("the bat sat (anna-1)\n(bo_2)\n")
    records = transcripts.read(hypothesis, reference)
    assert [(r.id, r.speaker, r.hypothesis) for r in records] == [
        ("anna-1", "anna", "the bat sat"),
        ("bo_2", "bo", ""),
    ]
    reference.write_text("the cat sat (rec_000)\na c (rec_001)\n")
    hypothesis.write_text("the bat sat (rec_000)\n(rec_001)\n")
    assert [r.speaker for r in transcripts.read(hypothesis, reference)] == ["", ""]
    reference.write_text(";;\nthe cat sat (anna-1)\na (b) c (bo_2)\nso (dora_1)\n")
    hypothesis.write_text("the bat sat (anna-1)\nmore (carl-3)\nno id\n{ um / @ } x (bo_2)\n")
    with pytest.raises(DataError) as raised:
        transcripts.read(hypothesis, reference)
    for problem in (
        "hyp.trn:3: has no (id) at the end", "hyp.trn:4: alternatives",
        f"ref.trn:4: {hypothesis} has no text of dora_1",
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
