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
