"""Data sets are checked as a whole before any work; what is wrong is said in one message."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import soundfile

import german_data
from edgewhisper.evaluation.datasets import find_dataset
from edgewhisper.workspace import Workspace
from edgewhisper_runtime import audio
from edgewhisper_runtime.errors import DataError
from german_data import Row, beside, common_voice, kaldi, librispeech


@pytest.fixture(scope="module")
def german(data: Path) -> list[Row]:
    return german_data.clips(data)


@pytest.fixture
def directory(german: list[Row], tmp_path: Path) -> Path:
    return german_data.linked(german, tmp_path)


def bad_manifest(directory: Path, german: list[Row]) -> Path:
    """A manifest in which the first and the last line can be used."""
    clip, text = german[0][0].name, german[0][1]
    (directory / "clips" / "damaged.wav").write_bytes(b"no audio at all")
    (directory / "clips" / "empty.wav").write_bytes(b"")
    soundfile.write(directory / "clips" / "short.wav", audio.load(german[0][0])[:16000], 16000)

    def line(**values: object) -> bytes:
        row = {"audio_filepath": f"clips/{german[1][0].name}", "text": text, "lang": "de"}
        return json.dumps(row | values, ensure_ascii=False).encode()

    lines = [
        b"\xef\xbb\xbf" + line(audio_filepath=f"clips/{clip}"),
        line(audio_filepath="clips/absent.wav"),
        line(audio_filepath="clips/damaged.wav"),
        line(audio_filepath="clips/empty.wav"),
        line(text=""),
        line(text="[lacht]"),
        line(audio_filepath=f"clips/{clip}"),
        line(lang="klingon"),
        line(text="eins\tzwei"),
        line(text="\ufeffeins"),
        b'{"audio_filepath": "clips/x.wav", "text": "\xe4"}',
        b"{nonsense",
        b'["a", "list"]',
        line(audio_filepath="clips/short.wav", duration=7.5),
        line(duration="long"),
        line(offset=3),
        line(text=["a", "list"]),
        b'{"text": "no audio"}',
        b"{" + b" " * (1 << 21) + b"}",
        line(audio_filepath=f"clips/{german[2][0].name}"),
    ]
    path = directory / "bad.jsonl"
    path.write_bytes(b"\n".join(lines))
    return path


REASONS = {
    2: "absent.wav does not exist",
    3: "damaged.wav is of no format that is read",
    4: "empty.wav is empty",
    5: "the text is empty",
    6: "has no words",
    7: "is that of",
    8: "unknown language 'klingon'",
    9: "the text has a control character (a tab)",
    10: "the text has a control character (a byte order mark)",
    11: "is not UTF-8",
    12: "is not JSON",
    13: "is not a JSON object",
    14: "the duration is 7.5 s, and the audio has 1.00 s",
    15: "duration is 'long', not a number of seconds",
    16: "begins at 3 s of its recording",
    17: "text is a list, not a text",
    18: "there is no column for the audio",
    19: "the line has more than",
}


def test_all_problems_are_in_one_message_with_their_lines(
    workspace: Workspace, directory: Path, german: list[Row]
) -> None:
    path = bad_manifest(directory, german)
    with pytest.raises(DataError) as error:
        find_dataset(workspace, path)
    message = str(error.value)
    assert "\n" not in message
    assert "Nothing was transcribed" in message
    for line, reason in REASONS.items():
        at = message.index(f"{path}:{line}: ")
        end = message.find(f"; {path}:{line + 1}: ", at)
        assert reason in message[at:end], (line, message[at:end])
    assert f"{path}:1: " not in message
    assert f"{path}:20: " not in message


def test_bad_utterances_are_left_out_and_listed_where_that_is_asked_for(
    workspace: Workspace, directory: Path, german: list[Row]
) -> None:
    path = bad_manifest(directory, german)
    dataset = find_dataset(workspace, path, skip_bad=True)
    assert len(dataset.utterances["bad"]) == 2
    places = {int(problem.where.rsplit(":", 1)[1]) for problem in dataset.skipped}
    assert places == set(REASONS)
    assert dataset.record(None).skipped == len(REASONS)


def test_tables_with_bad_rows(workspace: Workspace, directory: Path, german: list[Row]) -> None:
    clips = [clip.name for clip, _ in german]
    path = directory / "werk.csv"
    path.write_bytes(
        f"path,text\n{clips[0]},guten Tag\n{clips[1]},ja, genau\n"
        f'{clips[1]},"ja, genau"\n{clips[2]},"eine\nzweite Zeile"\n'.encode()
        + f"{clips[2]},gr\xfcn\n".encode("latin-1")
        + f'{clips[2]},"offen\n'.encode()
    )
    dataset = find_dataset(workspace, path, language="de", skip_bad=True)
    assert [u.reference for u in dataset.utterances["werk"]] == ["guten Tag", "ja, genau"]
    reasons = {problem.where: problem.reason for problem in dataset.skipped}
    assert "has 3 values, and the header has 2" in reasons[f"{path}:3"]
    assert "a line break" in reasons[f"{path}:5 to 6"]
    assert "is not UTF-8" in reasons[f"{path}:7"]
    assert "is not CSV" in reasons[f"{path}:8"]


@pytest.mark.parametrize("rest", ["", 'd.ogg,"so, so"\n', 'd.ogg,he said "so"\n'])
def test_a_quote_that_is_not_closed_costs_its_own_row_alone(
    workspace: Workspace, directory: Path, smoke_clip: Path, rest: str
) -> None:
    for name in "abcd":
        shutil.copy(smoke_clip, directory / f"{name}.ogg")
    path = directory / "calls.csv"
    path.write_text(f'path,text\na.ogg,one\nb.ogg,"tis the season\nc.ogg,three\n{rest}')
    dataset = find_dataset(workspace, path, language="en", skip_bad=True)
    names = [utterance.path.name for utterance in dataset.utterances["calls"]]
    assert names == ["a.ogg", "c.ogg", *(["d.ogg"] if rest else [])]
    assert [problem.where for problem in dataset.skipped] == [f"{path}:3"]


@pytest.mark.parametrize("header", [b"path,text,gr\xf6\xdfe\n", b'path,"text\n', b"\n\xff\n"])
def test_a_header_that_cannot_be_read_costs_no_utterance_its_row(
    workspace: Workspace, directory: Path, german: list[Row], header: bytes
) -> None:
    path = directory / "werk.csv"
    path.write_bytes(header + f"clips/{german[0][0].name},hallo,1\n".encode())
    with pytest.raises(DataError, match=r"werk\.csv:[12]: is not .*It is the header"):
        find_dataset(workspace, path, language="de", skip_bad=True)


def test_one_recording_under_several_names_is_one(
    workspace: Workspace, directory: Path, german: list[Row]
) -> None:
    clip = german[0][0].name
    (directory / "link.ogg").symlink_to(directory / "clips" / clip)
    (directory / "again").symlink_to(directory / "clips")
    names = [f"clips/{clip}", "link.ogg", f"again/{clip}", str(directory / "clips" / clip)]
    path = directory / "werk.csv"
    path.write_text("path,text\n" + "".join(f"{name},hallo\n" for name in names))
    dataset = find_dataset(workspace, path, language="de", skip_bad=True)
    assert [u.id for u in dataset.utterances["werk"]] == names[:1]
    assert all(f"is that of {path}:2 too" in problem.reason for problem in dataset.skipped)

    where = beside(directory / "again", german)
    (where / "u0.wav").write_bytes((where / "u0.ogg").read_bytes())
    with pytest.raises(DataError, match=r"u0\.wav: has the text of u0\.ogg too"):
        find_dataset(workspace, where)


def test_all_that_is_wrong_with_one_utterance_is_said(
    workspace: Workspace, directory: Path, german: list[Row]
) -> None:
    clip = f"clips/{german[0][0].name}"
    (directory / "werk.csv").write_text(f"path,text,lang,duration\n{clip},,klingon,99\n")
    (directory / "werk.jsonl").write_text(
        json.dumps({"audio": clip, "text": [], "lang": "de", "duration": "long", "offset": 3})
    )
    for name, reasons in (
        ("werk.csv", ("the text is empty", "unknown language 'klingon'", "the duration is 99 s")),
        ("werk.jsonl", ("text is a list", "duration is 'long'", "begins at 3 s")),
    ):
        with pytest.raises(DataError) as error:
            find_dataset(workspace, directory / name)
        assert all(reason in str(error.value) for reason in reasons), error.value


def test_a_text_without_a_letter_or_a_digit_has_no_words(
    workspace: Workspace, directory: Path, german: list[Row]
) -> None:
    """Also in English, whose normalizer keeps some signs as words."""
    clip = german[0][0].name
    for text in ("...", "$", "\u2026", "%", "\u00ad", "\u200f"):
        for language in ("en", "de"):
            path = directory / "werk.csv"
            path.write_text(f"path,text,lang\nclips/{clip},{text},{language}\n")
            with pytest.raises(DataError, match=r"werk\.csv:2: the text .* has no words"):
                find_dataset(workspace, path)
    path.write_text(f"path,text,lang\nclips/{clip},7 $,en\n")
    assert find_dataset(workspace, path).skipped == ()


def test_two_columns_for_one_field_are_no_choice(
    workspace: Workspace, directory: Path, german: list[Row]
) -> None:
    clip = f"clips/{german[0][0].name}"
    (directory / "werk.csv").write_text(f"path,text,TEXT\n{clip},ja,nein\n")
    (directory / "werk.jsonl").write_text(json.dumps({"audio": clip, "text": "a", "Text": "b"}))
    for name in ("werk.csv", "werk.jsonl"):
        with pytest.raises(DataError, match=r"it has the columns 'text' and '(TEXT|Text)'"):
            find_dataset(workspace, directory / name, language="de")
    card = directory / "card.toml"
    card.write_text('path = "werk.csv"\nlanguage = "de"\ncolumns = {text = "TEXT"}\n')
    ((utterance,),) = find_dataset(workspace, card).utterances.values()
    assert utterance.reference == "nein"


def test_what_kaldi_says_of_an_utterance_has_its_own_place(
    workspace: Workspace, directory: Path, german: list[Row]
) -> None:
    where = kaldi(directory, german)
    (where / "utt2lang").write_text("u0 de\nu1 klingon\nu2 de\n")
    (where / "utt2dur").write_text("u0 abc\n")
    with pytest.raises(DataError) as error:
        find_dataset(workspace, where)
    assert f"{where / 'utt2lang'}:2: unknown language 'klingon'" in str(error.value)
    assert f"{where / 'utt2dur'}:1: 'abc' is not a number of seconds" in str(error.value)
    ((utterance,),) = find_dataset(workspace, where, skip_bad=True).utterances.values()
    assert utterance.id == "u2"


def test_a_long_text_in_a_table_is_a_text(
    workspace: Workspace, directory: Path, german: list[Row]
) -> None:
    text = "ja " * 60_000
    (directory / "werk.csv").write_text(f"path,text\nclips/{german[0][0].name},{text}\n")
    ((utterance,),) = find_dataset(
        workspace, directory / "werk.csv", language="de"
    ).utterances.values()
    assert utterance.reference == text.strip()


def test_names_that_no_report_could_hold_are_problems(
    workspace: Workspace, directory: Path, german: list[Row]
) -> None:
    rows = [
        {"audio": f"clips/{clip.name}", "text": "hallo", "lang": "de"} | values
        for (clip, _), values in zip(
            german, ({"id": "\ud800"}, {"speaker": "\u202e"}, {"text": "\udfff"}), strict=True
        )
    ]
    rows.append(rows[0] | {"audio": "x" * 300})
    path = directory / "werk.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError) as error:
        find_dataset(workspace, path)
    for reason in (
        "the id has a control character (U+D800)",
        "the speaker has a hidden character (U+202E)",
        "the text has a control character (U+DFFF)",
        f"{path}:4: ",
    ):
        assert reason in str(error.value)


def test_an_utterance_with_two_problems_is_left_out_once(
    workspace: Workspace, directory: Path, german: list[Row]
) -> None:
    path = directory / "werk.csv"
    path.write_text(
        f"path,text,lang,duration\nclips/{german[0][0].name},ja,de,\n"
        f"clips/{german[1][0].name},nein,klingon,999\n"
    )
    dataset = find_dataset(workspace, path, skip_bad=True)
    assert len(dataset.skipped) == 2
    assert dataset.record(None).skipped == 1


def test_audio_without_a_transcript_is_a_problem(
    workspace: Workspace, directory: Path, german: list[Row]
) -> None:
    where = librispeech(directory, german)
    chapter = where / "test" / "s0" / "1"
    (chapter / "u9.ogg").symlink_to(german[0][0])
    (where / "test" / "s1" / "1" / "s1-1.trans.txt").unlink()
    with pytest.raises(DataError) as error:
        find_dataset(workspace, where)
    for path in (chapter / "u9.ogg", where / "test" / "s1" / "1" / "u1.ogg"):
        assert f"{path}: has no line in a .trans.txt beside it" in str(error.value)


def test_splits_that_cannot_be_told_apart_or_are_not_there(
    workspace: Workspace, directory: Path, german: list[Row]
) -> None:
    path = common_voice(directory, german)
    (path / "test.csv").write_text("path,text\n")
    with pytest.raises(DataError, match=r"has test\.csv and test\.tsv, which are one split"):
        find_dataset(workspace, path)
    (directory / "empty").mkdir()
    (directory / "card.toml").write_text('path = "empty"\nformat = "table"\n')
    with pytest.raises(DataError, match="has no data of the format table"):
        find_dataset(workspace, directory / "card.toml")


def test_a_kaldi_directory_executes_nothing(
    workspace: Workspace, directory: Path, german: list[Row]
) -> None:
    where = kaldi(directory, german)
    proof = directory / "executed"
    scp = where / "wav.scp"
    scp.write_text(scp.read_text() + f"u3 touch {proof} |\n")
    (where / "text").write_text((where / "text").read_text() + "u3 Hallo\nu4 Hallo\n")
    with pytest.raises(DataError) as error:
        find_dataset(workspace, where)
    assert f"{scp}:4: the audio of u3 is a command; none is executed" in str(error.value)
    assert f"{where / 'text'}:5: u4 has no audio in wav.scp" in str(error.value)
    assert not proof.exists()
    (where / "text").write_text("u0 Hallo\n")
    with pytest.raises(DataError) as error:
        find_dataset(workspace, where)
    assert f"{scp}:2: u1 has no text" in str(error.value)
    assert f"{scp}:3: u2 has no text" in str(error.value)
    (where / "utt2spk").write_bytes(b"u0 s\xff\n")
    with pytest.raises(DataError, match=r"utt2spk:1: is not UTF-8.*mend the file"):
        find_dataset(workspace, where, skip_bad=True)
    (where / "segments").write_text("u0 r0 0.0 1.0\n")
    with pytest.raises(DataError, match="has segments, and only whole recordings are read"):
        find_dataset(workspace, where)


def test_what_is_no_data(workspace: Workspace, directory: Path) -> None:
    empty = directory / "empty"
    empty.mkdir()
    for path in (empty, next((directory / "clips").iterdir())):
        with pytest.raises(DataError, match="is of no format that is read"):
            find_dataset(workspace, path)
    with pytest.raises(DataError, match="the name of the data is empty"):
        find_dataset(workspace, "")
    nothing = directory / "nothing.jsonl"
    nothing.touch()
    with pytest.raises(DataError, match=r"nothing\.jsonl is empty"):
        find_dataset(workspace, nothing)
    header = directory / "header.csv"
    header.write_text("path,text\n")
    with pytest.raises(DataError, match="header has no utterances"):
        find_dataset(workspace, header)
    array = directory / "array.json"
    array.write_text('[{"audio_filepath": "a.wav", "text": "hallo"}]')
    with pytest.raises(DataError, match=r"array\.json is a JSON list. Save it as JSON lines"):
        find_dataset(workspace, array)
    utf16 = directory / "utf16.csv"
    utf16.write_text("path,text\na.wav,hallo\n", encoding="utf-16")
    with pytest.raises(DataError, match=r"utf16\.csv is UTF-16"):
        find_dataset(workspace, utf16)


def test_a_split_that_is_not_there(
    workspace: Workspace, directory: Path, german: list[Row]
) -> None:
    path = common_voice(directory, german)
    assert find_dataset(workspace, path, ("validated",)).splits == ("validated",)
    with pytest.raises(DataError, match=r"no split 'dev'; it has .*test, validated"):
        find_dataset(workspace, path, ("dev",))
