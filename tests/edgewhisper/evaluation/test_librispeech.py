"""Finding LibriSpeech, reading its layout, and saying what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgewhisper.evaluation.datasets import find_dataset, utterances
from edgewhisper.evaluation.librispeech import SMOKE
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.errors import DataError


def test_real_splits(workspace: Workspace, data: Path) -> None:
    for directory in (data, data / "LibriSpeech"):
        dataset = find_dataset(workspace, librispeech=directory)
        assert (dataset.name, dataset.splits) == ("LibriSpeech", ("test-clean", "test-other"))
    clean = utterances(dataset, "test-clean")
    audio = sorted((data / "LibriSpeech" / "test-clean").glob("*/*/*.flac"))
    assert [u.path for u in clean] == audio
    assert [u.id for u in clean] == [path.stem for path in audio]
    assert [u.speaker for u in clean] == [path.parts[-3] for path in audio]
    assert all(u.reference.isupper() and u.duration > 1 for u in clean)
    assert dataset.languages == {"en": sum(map(len, dataset.utterances.values()))}


def test_a_limit_is_spread_evenly(workspace: Workspace, data: Path) -> None:
    dataset = find_dataset(workspace, splits=("test-clean",), librispeech=data)
    few = utterances(dataset, "test-clean", 10)
    assert len(few) == 10
    assert len({u.speaker for u in few}) >= 5
    assert few == utterances(dataset, "test-clean", 10)
    everything = utterances(dataset, "test-clean")
    assert utterances(dataset, "test-clean", len(everything) + 1) == everything


def test_the_environment_names_it(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWHISPER_LIBRISPEECH", str(data))
    assert find_dataset(Workspace.from_environment()).librispeech == data / "LibriSpeech"


def test_the_smoke_set_stands_in_and_says_so(workspace: Workspace) -> None:
    dataset = find_dataset(workspace)
    assert (dataset.name, dataset.splits, dataset.synthetic) == (SMOKE, ("smoke",), True)
    clips = utterances(dataset, "smoke")
    assert len(clips) == 24
    assert len({clip.speaker for clip in clips}) == 6


def test_what_is_not_there(workspace: Workspace, data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no LibriSpeech split"):
        find_dataset(workspace, librispeech=tmp_path)
    with pytest.raises(DataError, match="no split 'dev-other'"):
        find_dataset(workspace, splits=("dev-other",), librispeech=data)
    with pytest.raises(DataError, match="edgewhisper data librispeech"):
        find_dataset(workspace, splits=("test-clean",))


def test_a_transcript_without_audio_and_one_that_is_no_text(
    workspace: Workspace, tmp_path: Path
) -> None:
    directory = tmp_path / "test-clean" / "1" / "2"
    directory.mkdir(parents=True)
    (directory / "1-2.trans.txt").write_bytes(b"1-2-0000 HELLO\n1-2-0001 H\xc9LAS\n")
    with pytest.raises(DataError) as error:
        find_dataset(workspace, librispeech=tmp_path)
    assert "1-2.trans.txt:1: " in str(error.value)
    assert "1-2-0000.flac does not exist" in str(error.value)
    assert "1-2.trans.txt:2: is not UTF-8" in str(error.value)
