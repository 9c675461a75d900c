"""Data sets in every format, read and checked as a whole before any work."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from edgewhisper.evaluation import cards
from edgewhisper.evaluation.datasets import Dataset, development, find_dataset
from edgewhisper.evaluation.formats import names
from edgewhisper.workspace import Workspace
from edgewhisper_runtime import audio
from edgewhisper_runtime.errors import DataError

Row = tuple[Path, str]


@pytest.fixture(scope="module")
def german(data: Path) -> list[Row]:
    """Three German clips and their texts."""
    clips = sorted((data / "multilingual" / "de").glob("*.ogg"))[:3]
    return [(clip, clip.with_suffix(".txt").read_text().strip()) for clip in clips]


@pytest.fixture
def directory(german: list[Row], tmp_path: Path) -> Path:
    """A directory with the clips below clips/."""
    (tmp_path / "clips").mkdir()
    for clip, _ in german:
        (tmp_path / "clips" / clip.name).symlink_to(clip)
    return tmp_path


def jsonl(directory: Path, german: list[Row]) -> Path:
    path = directory / "werk.jsonl"
    rows = [
        {"audio_filepath": f"clips/{clip.name}", "text": text, "duration": audio_seconds(clip),
         "lang": "de", "speaker": f"s{n}", "id": f"u{n}", "split": "test"}
        for n, (clip, text) in enumerate(german)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def table(directory: Path, german: list[Row]) -> Path:
    path = directory / "werk.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as file:  # as Excel writes it
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["Path", "Transcript", "Language", "Speaker", "ID", "Split"])
        writer.writerows(
            [f"clips/{clip.name}", text, "German", f"s{n}", f"u{n}", "test"]
            for n, (clip, text) in enumerate(german)
        )
    return path


def common_voice(directory: Path, german: list[Row]) -> Path:
    rows = "".join(f"s{n}\t{clip.name}\t{text}\tde\n" for n, (clip, text) in enumerate(german))
    header = "client_id\tpath\tsentence\tlocale\n"
    (directory / "test.tsv").write_text(header + rows)
    (directory / "validated.tsv").write_text(header + rows)
    (directory / "clip_durations.tsv").write_text("clip\tduration[ms]\n")
    return directory


def kaldi(directory: Path, german: list[Row]) -> Path:
    where = directory / "test"
    where.mkdir()
    keys = [f"u{n}" for n in range(len(german))]
    files = {
        "wav.scp": [f"../clips/{clip.name}" for clip, _ in german],
        "text": [text for _, text in german],
        "utt2spk": [f"s{n}" for n in range(len(german))],
        "utt2lang": ["de"] * len(german),
    }
    for name, values in files.items():
        lines = [f"{key} {value}\n" for key, value in zip(keys, values, strict=True)]
        (where / name).write_text("".join(lines))
    return where


def librispeech(directory: Path, german: list[Row]) -> Path:
    for n, (clip, text) in enumerate(german):
        chapter = directory / "layout" / "test" / f"s{n}" / "1"
        chapter.mkdir(parents=True)
        (chapter / f"u{n}.ogg").symlink_to(clip)
        (chapter / f"s{n}-1.trans.txt").write_text(f"u{n} {text}\n")
    return directory / "layout"


def beside(directory: Path, german: list[Row]) -> Path:
    where = directory / "test"
    where.mkdir()
    for n, (clip, text) in enumerate(german):
        (where / f"u{n}.ogg").symlink_to(clip)
        (where / f"u{n}.txt").write_text(text + "\n")
    return where


def hugging_face(directory: Path, german: list[Row]) -> Path:
    datasets = pytest.importorskip("datasets", reason="needs Hugging Face's datasets")
    rows = [
        {"audio": {"bytes": clip.read_bytes(), "path": clip.name}, "sentence": text,
         "locale": "de", "client_id": f"s{n}", "id": n}
        for n, (clip, text) in enumerate(german)
    ]  # fmt: skip
    whole = datasets.Dataset.from_list(rows).cast_column("audio", datasets.Audio())
    whole = whole.cast_column("locale", datasets.ClassLabel(names=["en", "de"]))
    datasets.DatasetDict({"test": whole, "train": whole}).save_to_disk(directory / "saved")
    return directory / "saved"


def parquet(directory: Path, german: list[Row]) -> Path:
    datasets = pytest.importorskip("datasets", reason="needs Hugging Face's datasets")
    saved = datasets.load_from_disk(hugging_face(directory, german))
    where = directory / "tables"
    where.mkdir()
    for split in saved:
        saved[split].to_parquet(where / f"{split}-00000-of-00001.parquet")
    return where


FORMATS: dict[str, Callable[[Path, list[Row]], Path]] = {
    "jsonl": jsonl,
    "table": table,
    "table (Common Voice)": common_voice,
    "kaldi": kaldi,
    "librispeech": librispeech,
    "directory": beside,
    "huggingface": hugging_face,
    "huggingface (parquet)": parquet,
}


def audio_seconds(path: Path) -> float:
    return round(len(audio.load(path)) / audio.SAMPLE_RATE, 2)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep Hugging Face's caches out of the user's home."""
    try:
        import datasets
    except ImportError:
        return
    monkeypatch.setattr(
        datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache").resolve()
    )


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_utterances(
    name: str, workspace: Workspace, directory: Path, german: list[Row]
) -> None:
    dataset = find_dataset(workspace, FORMATS[name](directory, german), language="de")
    assert dataset.card.format == name.split(" ", maxsplit=1)[0]
    assert dataset.splits == ("test",)
    assert dataset.skipped == ()
    utterances = dataset.utterances["test"]
    assert [u.reference for u in utterances] == [text for _, text in german]
    assert [u.path.read_bytes() for u in utterances] == [clip.read_bytes() for clip, _ in german]
    assert {u.language for u in utterances} == {"de"}
    assert [u.duration for u in utterances] == pytest.approx(
        [audio_seconds(clip) for clip, _ in german], abs=0.05
    )
    if name != "directory":
        assert [u.speaker for u in utterances] == ["s0", "s1", "s2"]


def test_every_registered_format_is_read() -> None:
    assert {name.split(" ", maxsplit=1)[0] for name in FORMATS} == set(names())


def test_a_card_says_what_the_data_does_not(directory: Path, german: list[Row], data: Path) -> None:
    workspace = Workspace(directory / "home")
    rows = "".join(f"{clip.name},{text}\n" for clip, text in german)
    (directory / "list.csv").write_text(f"aufnahme,wortlaut\n{rows}")
    workspace.data.mkdir(parents=True)
    card = workspace.data / "factory.toml"
    card.write_text(
        'path = "../../list.csv"\naudio = "../../clips"\nlanguage = "German"\n'
        'normalizer = "characters"\nlicence = "CC BY 4.0"\n'
        '[columns]\naudio = "aufnahme"\ntext = "wortlaut"\n'
    )
    for name in ("factory", card):
        dataset = find_dataset(workspace, name)
        assert (dataset.name, dataset.splits) == ("factory", ("list",))
        assert dataset.languages == {"de": 3}
        assert dataset.record(None).licence == "CC BY 4.0"
        assert {u.normalizer for u in dataset.utterances["list"]} == {"characters"}
    assert [found.name for found in cards.all_cards(workspace)] == ["factory"]
    with pytest.raises(DataError, match=r"there is no column for the audio.*'aufnahme'"):
        find_dataset(workspace, directory / "list.csv")
    with pytest.raises(DataError, match=r"neither a path nor the name .* \(factory\)"):
        find_dataset(workspace, "factories")
    card.write_text('path = "nowhere.csv"\n')
    with pytest.raises(DataError, match=r"nowhere\.csv, the path in the data card factory, does"):
        find_dataset(workspace, "factory")
    card.write_text('path = "list.csv"\nnormalizer = "englisch"\n')
    with pytest.raises(DataError, match=r"'englisch'; use one of english, basic, characters"):
        find_dataset(workspace, "factory")
    card.write_text('path = "list.csv"\nlanguages = "de"\n')
    with pytest.raises(DataError, match=r"factory\.toml is not a data card .*languages"):
        find_dataset(workspace, "factory")


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
        (directory / f"{name}.ogg").symlink_to(smoke_clip)
    path = directory / "calls.csv"
    path.write_text(f'path,text\na.ogg,one\nb.ogg,"tis the season\nc.ogg,three\n{rest}')
    dataset = find_dataset(workspace, path, language="en", skip_bad=True)
    names = [utterance.path.name for utterance in dataset.utterances["calls"]]
    assert names == ["a.ogg", "c.ogg", *(["d.ogg"] if rest else [])]
    assert [problem.where for problem in dataset.skipped] == [f"{path}:3"]


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


def test_what_is_missing_in_a_table_of_pandas_is_missing(
    workspace: Workspace, directory: Path, german: list[Row]
) -> None:
    nan = float("nan")
    rows = [
        {"audio_filepath": f"clips/{clip.name}", "text": text, "speaker": speaker, "lang": "de"}
        for (clip, _), text, speaker in zip(german, ["eins", nan, True], [nan, "b", 3], strict=True)
    ]
    path = directory / "werk.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = find_dataset(workspace, path, skip_bad=True)
    assert [(u.reference, u.speaker) for u in dataset.utterances["werk"]] == [("eins", "")]
    reasons = [problem.reason for problem in dataset.skipped]
    assert reasons == ["the text is empty", "text is a bool, not a text"]


def test_links_to_directories_are_followed(
    workspace: Workspace, directory: Path, german: list[Row]
) -> None:
    """Of directories with texts, and of Kaldi's, which have the names of the links."""
    where = beside(directory, german)
    for suffix in (".ogg", ".txt"):
        (directory / "more").mkdir(exist_ok=True)
        (where / "u2").with_suffix(suffix).rename((directory / "more" / "u2").with_suffix(suffix))
    (where / "linked").symlink_to(directory / "more")
    (where / "linked" / "back").symlink_to(where)
    dataset = find_dataset(workspace, where, language="de")
    assert [u.id for u in dataset.utterances["test"]] == ["linked/u2.ogg", "u0.ogg", "u1.ogg"]

    sets = directory / "sets"
    sets.mkdir()
    for split in ("dev", "test"):
        of_split = directory / f"of-{split}"
        of_split.mkdir()
        (sets / split).symlink_to(kaldi(of_split, german[:1] if split == "dev" else german[1:]))
        (of_split / "clips").symlink_to(directory / "clips")
    counts = {}
    for split in ("dev", "test"):
        counts |= {
            name: len(of) for name, of in find_dataset(workspace, sets, (split,)).utterances.items()
        }
    assert counts == {"dev": 1, "test": 2}


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


def test_a_language_that_is_missing_in_a_column_of_labels(
    workspace: Workspace, directory: Path, german: list[Row]
) -> None:
    datasets = pytest.importorskip("datasets", reason="needs Hugging Face's datasets")
    rows = [{"audio": str(clip), "text": text, "language": None} for clip, text in german]
    features = datasets.Features(
        audio=datasets.Value("string"), text=datasets.Value("string"),
        language=datasets.ClassLabel(names=["en", "de"]),
    )  # fmt: skip
    saved = datasets.Dataset.from_list(rows, features=features)
    datasets.DatasetDict({"test": saved}).save_to_disk(directory / "saved")
    assert find_dataset(workspace, directory / "saved", language="de").languages == {"de": 3}


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
    (where / "segments").write_text("u0 r0 0.0 1.0\n")
    with pytest.raises(DataError, match="has segments, and only whole recordings are read"):
        find_dataset(workspace, where)


def test_what_is_no_data(workspace: Workspace, directory: Path) -> None:
    empty = directory / "empty"
    empty.mkdir()
    for path in (empty, next((directory / "clips").iterdir())):
        with pytest.raises(DataError, match="is of no format that is read"):
            find_dataset(workspace, path)
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


def test_without_a_language_english_is_taken_and_said(
    workspace: Workspace, directory: Path, german: list[Row], caplog: pytest.LogCaptureFixture
) -> None:
    path = beside(directory, german)
    dataset: Dataset = find_dataset(workspace, path)
    assert dataset.languages == {"en": 3}
    assert "does not say the language of 3 utterances" in caplog.text


def test_a_language_is_that_of_development_speech_too(
    workspace: Workspace, directory: Path, german: list[Row]
) -> None:
    path = directory / "werk.csv"
    splits = ("dev", "test", "test")
    rows = [f"clips/{c.name};{text};{of}" for (c, text), of in zip(german, splits, strict=True)]
    path.write_text("\n".join(["path;text;split", *rows]), encoding="utf-8")
    dataset = find_dataset(workspace, path, language="de")
    assert dataset.languages == {"de": 2}
    assert [utterance.language for utterance in development(dataset, 8)] == ["de"]


def test_a_large_manifest_is_checked_with_progress(
    workspace: Workspace, directory: Path, smoke_clip: Path
) -> None:
    path = directory / "large.jsonl"
    clips = directory / "many"
    clips.mkdir()
    row = '{{"audio_filepath": "many/{}.opus", "text": "there is bread"}}\n'
    path.write_text("".join(row.format(n) for n in range(2000)))
    for n in range(1999):
        (clips / f"{n}.opus").symlink_to(smoke_clip)
    events: list[tuple[str, int, int]] = []
    with pytest.raises(DataError, match=r"large\.jsonl:2000: .*1999\.opus does not exist"):
        find_dataset(workspace, path, progress=lambda *event: events.append(event))
    assert events[-1] == ("checking large", 2000, 2000)
    assert len(events) < 50
