"""Finding LibriSpeech, reading its layout, and saying what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgewhisper.evaluation.librispeech import SMOKE, Dataset, find, utterances
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.errors import DataError


def test_real_splits(data: Path) -> None:
    for directory in (data, data / "LibriSpeech"):
        dataset = find(Workspace.from_environment(), directory)
        assert (dataset.name, dataset.splits) == ("LibriSpeech", ("test-clean", "test-other"))
    clean = utterances(dataset, "test-clean")
    audio = sorted((data / "LibriSpeech" / "test-clean").glob("*/*/*.flac"))
    assert [u.path for u in clean] == audio
    assert [u.id for u in clean] == [path.stem for path in audio]
    assert [u.speaker for u in clean] == [path.parts[-3] for path in audio]
    assert all(u.reference.isupper() and u.duration > 1 for u in clean)


def test_a_limit_is_spread_evenly(data: Path) -> None:
    dataset = find(Workspace.from_environment(), data, ("test-clean",))
    few = utterances(dataset, "test-clean", 10)
    assert len(few) == 10
    assert len({u.speaker for u in few}) >= 5
    assert few == utterances(dataset, "test-clean", 10)
    everything = utterances(dataset, "test-clean")
    assert utterances(dataset, "test-clean", len(everything) + 1) == everything


def test_the_environment_names_it(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWHISPER_LIBRISPEECH", str(data))
    assert find(Workspace.from_environment()).root == data / "LibriSpeech"


def test_the_smoke_set_stands_in_and_says_so() -> None:
    dataset = find(Workspace.from_environment())
    assert (dataset.name, dataset.splits) == (SMOKE, ("smoke",))
    clips = utterances(dataset, "smoke")
    assert len(clips) == 24
    assert len({clip.speaker for clip in clips}) == 6
    size = sum(path.stat().st_size for path in dataset.root.rglob("*") if path.is_file())
    assert size < 2_000_000


def test_what_is_not_there(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no LibriSpeech split"):
        find(Workspace.from_environment(), tmp_path)
    with pytest.raises(DataError, match="no split 'dev-other'"):
        find(Workspace.from_environment(), data, ("dev-other",))
    with pytest.raises(DataError, match="edgewhisper data librispeech"):
        find(Workspace.from_environment(), None, ("test-clean",))


def test_a_transcript_without_audio(tmp_path: Path) -> None:
    directory = tmp_path / "test-clean" / "1" / "2"
    directory.mkdir(parents=True)
    (directory / "1-2.trans.txt").write_text("1-2-0000 HELLO\n")
    with pytest.raises(DataError, match="not its audio"):
        utterances(Dataset("LibriSpeech", tmp_path, ("test-clean",)), "test-clean")


def test_a_transcript_that_is_no_text(tmp_path: Path) -> None:
    directory = tmp_path / "test-clean" / "1" / "2"
    directory.mkdir(parents=True)
    (directory / "1-2.trans.txt").write_bytes(b"1-2-0000 H\xc9LAS\n")
    with pytest.raises(DataError, match="is not UTF-8"):
        utterances(Dataset("LibriSpeech", tmp_path, ("test-clean",)), "test-clean")
