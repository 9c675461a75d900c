"""Data sets in every format, read as the same utterances."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import german_data
from edgewhisper.evaluation import cards
from edgewhisper.evaluation.datasets import Dataset, development, find_dataset
from edgewhisper.evaluation.formats import names
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.errors import DataError
from german_data import FORMATS, Row, audio_seconds, beside, kaldi


@pytest.fixture(scope="module")
def german(data: Path) -> list[Row]:
    return german_data.clips(data)


@pytest.fixture
def directory(german: list[Row], tmp_path: Path) -> Path:
    return german_data.linked(german, tmp_path)


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


def test_a_card_is_found_by_the_name_in_it_whatever_other_cards_are(
    directory: Path, german: list[Row], caplog: pytest.LogCaptureFixture
) -> None:
    workspace = Workspace(directory / "home")
    path = german_data.jsonl(directory, german)
    workspace.data.mkdir(parents=True)
    card = workspace.data / "factory.toml"
    card.write_text(f'name = "Factory floor"\npath = "{path}"\n', encoding="utf-8-sig")
    (workspace.data / "broken.toml").write_text('path = "~nobody-of-this-name/x"\n')
    for name in ("factory", "Factory floor"):
        assert find_dataset(workspace, name).name == "Factory floor"
    assert [found.name for found in cards.all_cards(workspace)] == ["Factory floor"]
    assert "broken.toml is not a data card" in caplog.text
    with pytest.raises(DataError, match="there is no data 'factry'"):
        find_dataset(workspace, "factry")


def test_what_people_have_on_their_disks(
    workspace: Workspace, directory: Path, german: list[Row]
) -> None:
    """Blank lines first, suffixes in capitals, one split of LibriSpeech, tables of other things."""
    of_german = [text for _, text in german]
    for path in (german_data.jsonl(directory, german), german_data.table(directory, german)):
        path.write_text("\n \n" + path.read_text("utf-8-sig"))
        assert texts(find_dataset(workspace, path, language="de")) == of_german
    with pytest.raises(DataError, match="can be read as jsonl and as table"):
        find_dataset(workspace, directory, language="de")
    (directory / "werk.jsonl").unlink()
    (directory / "speakers.csv").write_text("speaker,age\ns0,30\n")
    assert find_dataset(workspace, directory, language="de").splits == ("werk",)

    where = beside(directory, german)
    for path in list(where.iterdir()):
        path.rename(path.with_suffix(path.suffix.upper()))
    assert texts(find_dataset(workspace, where, language="de")) == of_german

    split = german_data.librispeech(directory / "clips", german) / "test"
    dataset = find_dataset(workspace, split, language="de")
    assert (dataset.card.format, dataset.splits) == ("librispeech", ("test",))
    assert texts(dataset) == of_german


def texts(dataset: Dataset) -> list[str]:
    return [u.reference for of_split in dataset.utterances.values() for u in of_split]


def test_hugging_face_data_is_found_by_any_path(
    workspace: Workspace, directory: Path, german: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    audio = [{"bytes": None, "path": f"clips/{clip.name}"} for clip, _ in german]
    table = datasets.Dataset.from_dict({"audio": audio, "text": [text for _, text in german]})
    (directory / "hf").mkdir()
    table.to_parquet(directory / "hf" / "test-0.parquet")
    (directory / "hf" / "clips").symlink_to(directory / "clips")
    monkeypatch.chdir(directory)
    for path in (Path("hf"), directory / "hf"):
        dataset = find_dataset(workspace, path, language="de")
        assert [u.path.name for u in dataset.utterances["test"]] == [c.name for c, _ in german]
    (directory / "hf" / "clips").unlink()
    card = directory / "card.toml"
    card.write_text(f'path = "hf"\naudio = "{directory}"\nlanguage = "de"\n')
    assert find_dataset(workspace, card).skipped == ()
    (directory / "hf" / "dataset_dict.json").write_text("[]")
    with pytest.raises(DataError, match=r"hf could not be read as a data set .*Save it again"):
        find_dataset(workspace, card)


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


def test_without_a_language_english_is_taken_and_said(
    workspace: Workspace, directory: Path, german: list[Row], caplog: pytest.LogCaptureFixture
) -> None:
    path = beside(directory, german)
    dataset: Dataset = find_dataset(workspace, path)
    assert dataset.languages == {"en": 3}
    assert "does not say the language of 3 utterances" in caplog.text
    caplog.clear()
    rows = [f"clips/{clip.name},{text},auto\n" for clip, text in german]
    (directory / "werk.csv").write_text("path,text,language\n" + "".join(rows))
    assert find_dataset(workspace, directory / "werk.csv").languages == {"en": 3}
    assert "does not say the language of 3 utterances" in caplog.text


@pytest.mark.parametrize("content", ["", "pth,text\nclips/x.ogg,ja\n", "{}"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_split_that_cannot_be_read_is_not_left_out_in_silence(
    workspace: Workspace, directory: Path, german: list[Row], content: str, suffix: str
) -> None:
    table = german_data.table if suffix == ".csv" else german_data.jsonl
    table(directory, german).rename(directory / f"train{suffix}")
    (directory / f"Test{suffix}").write_text(content)
    with pytest.raises(DataError, match=rf"Test{suffix}: (there is no column|its first line)"):
        find_dataset(workspace, directory, language="de")


def test_what_is_left_out_of_a_directory_is_said(
    workspace: Workspace, directory: Path, german: list[Row], caplog: pytest.LogCaptureFixture
) -> None:
    german_data.table(directory, german)
    (directory / "ages.csv").write_text("speaker,age\ns0,30\n")
    assert find_dataset(workspace, directory, language="de").splits == ("werk",)
    assert f"left out of the data: {directory}/ages.csv: there is no column" in caplog.text


def test_a_split_without_texts_is_no_smaller_data_set(
    workspace: Workspace, directory: Path, german: list[Row]
) -> None:
    kaldi(directory, german).rename(directory / "train")
    (directory / "test").mkdir()
    (directory / "test" / "wav.scp").write_text(f"a ../clips/{german[0][0].name}\n")
    with pytest.raises(DataError, match=r"test/wav\.scp:1: a has no text"):
        find_dataset(workspace, directory, language="de")
    layout = german_data.librispeech(directory, german)
    shutil.copytree(layout / "test", layout / "train")
    for transcript in (layout / "test").rglob("*.txt"):
        transcript.unlink()
    with pytest.raises(DataError, match="has no line in a"):
        find_dataset(workspace, layout, language="de")


@pytest.mark.parametrize("content", ['{"default": {}}', "[1]", "[", '{"version": 1}\n{}'])
def test_other_files_do_not_change_what_a_directory_is(
    workspace: Workspace, directory: Path, german: list[Row], content: str
) -> None:
    for make in (german_data.common_voice, kaldi, german_data.librispeech):
        where = make(directory, german)
        (where / "notes.json").write_text(content)
        assert len(find_dataset(workspace, where, language="de").utterances["test"]) == 3
        (where / "notes.json").unlink()
        shutil.rmtree(directory / "test", ignore_errors=True)
        for path in directory.glob("*.tsv"):
            path.unlink()


def test_names_of_splits_are_read_in_any_case(
    workspace: Workspace, directory: Path, german: list[Row]
) -> None:
    path = directory / "werk.csv"
    splits = ("Train", "Test", "Validation")
    rows = [f"clips/{c.name},{text},{of}" for (c, text), of in zip(german, splits, strict=True)]
    path.write_text("\n".join(["path,text,split", *rows]))
    dataset = find_dataset(workspace, path, language="de")
    assert dataset.splits == ("Test",)
    assert [u.reference for u in development(dataset, 8)] == [german[2][1]]
    lines = [
        {"audio": f"clips/{clip.name}", "text": text, "split": of}
        for (clip, text), of in zip(german, (0, 1, ["a"]), strict=True)
    ]
    (directory / "folds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(DataError, match=r"folds\.jsonl:3: split is a list, not a text"):
        find_dataset(workspace, directory / "folds.jsonl", language="de")
    folds = find_dataset(workspace, directory / "folds.jsonl", language="de", skip_bad=True)
    assert folds.splits == ("0", "1")


def test_development_speech_is_not_evaluated_on(
    workspace: Workspace, directory: Path, german: list[Row]
) -> None:
    """What Common Voice calls validated is all that was listened to, its test split too."""
    where = german_data.common_voice(directory, german)
    assert development(find_dataset(workspace, where, language="de"), 8) == []
    (where / "validated.tsv").rename(where / "dev.tsv")
    (where / "test.tsv").write_text("".join((where / "test.tsv").read_text().splitlines(True)[:2]))
    dataset = find_dataset(workspace, where, language="de")
    assert [u.reference for u in development(dataset, 8)] == [text for _, text in german[1:]]


def test_utterances_of_two_splits_are_two(
    workspace: Workspace, directory: Path, german: list[Row]
) -> None:
    for split, (clip, _) in zip(("test-a", "test-b"), german, strict=False):
        (directory / f"{split}.csv").write_text(f"path,text,id\nclips/{clip.name},ja,0\n")
    dataset = find_dataset(workspace, directory, language="de")
    ids = [[u.id for u in of_split] for of_split in dataset.utterances.values()]
    assert ids == [["test-a/0"], ["test-b/0"]]


def test_a_configuration_is_one_of_those_that_are_there(
    workspace: Workspace, directory: Path, german: list[Row]
) -> None:
    datasets = pytest.importorskip("datasets")
    for name, row in zip(("de", "at"), german, strict=False):
        (directory / "snapshot" / name).mkdir(parents=True)
        audio = str(directory / "clips" / row[0].name)
        table = datasets.Dataset.from_dict({"audio": [audio], "text": [row[1]]})
        table.to_parquet(directory / "snapshot" / name / "test-00000-of-00001.parquet")
    with pytest.raises(DataError, match=r"has test in several configurations \(at, de\)"):
        find_dataset(workspace, directory / "snapshot", language="de")
    card = directory / "card.toml"
    card.write_text('path = "snapshot"\nlanguage = "de"\nconfiguration = "de"\n')
    ((utterance,),) = find_dataset(workspace, card).utterances.values()
    assert utterance.reference == german[0][1]
    card.write_text('path = "snapshot"\nlanguage = "de"\nconfiguration = "fr"\n')
    with pytest.raises(DataError, match="has no configuration 'fr'; it has at, de"):
        find_dataset(workspace, card)
    card.write_text(f'path = "{kaldi(directory, german).name}"\nconfiguration = "de"\n')
    with pytest.raises(DataError, match="has configuration, which changes nothing of data of the"):
        find_dataset(workspace, card)


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
        shutil.copy(smoke_clip, clips / f"{n}.opus")
    events: list[tuple[str, int, int]] = []
    with pytest.raises(DataError, match=r"large\.jsonl:2000: .*1999\.opus does not exist"):
        find_dataset(workspace, path, progress=lambda *event: events.append(event))
    assert events[-1] == ("checking large", 2000, 2000)
    assert len(events) < 50
