"""What FILES stands for: files, directories, patterns, stdin."""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
import pytest
import soundfile

from edgewhisper_runtime import audio
from edgewhisper_runtime.audio import spool
from edgewhisper_runtime.cli import recordings
from edgewhisper_runtime.errors import AudioError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with audio at two depths, and what is none of our business."""
    for name in ("b.wav", "a.FLAC", "deep/c.opus", "deep/d.mp3", "notes.txt",
                 "deep/._c.opus", ".hidden/e.wav"):  # fmt: skip
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "tree"


def find(*arguments: object) -> list[recordings.Input]:
    """Find what has no error."""

    def fail(_directory: Path, error: AudioError) -> None:
        raise error

    return recordings.find(list(map(str, arguments)), fail)


def names(*arguments: object) -> list[str]:
    return [str(found.name) for found in find(*arguments)]


def test_directories_are_searched_and_keep_relative_names(tree: Path) -> None:
    assert names(tree) == ["a.FLAC", "b.wav", "deep/c.opus", "deep/d.mp3"]
    assert names(tree / "deep", tree / "b.wav") == ["c.opus", "d.mp3", "b.wav"]


def test_patterns_that_the_shell_left_alone(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert names(f"{tree}/**/*.opus") == ["c.opus"]
    monkeypatch.chdir(tree)
    assert names("*.wav", "d*") == ["b.wav", "c.opus", "d.mp3"]
    assert names("*.aiff") == ["*.aiff"]


def test_a_name_that_looks_like_a_pattern_is_a_name(tree: Path) -> None:
    odd = tree / "talk [1].wav"
    odd.touch()
    assert names(odd) == ["talk [1].wav"]


def test_what_needs_pyav_is_taken_where_it_is(
    tree: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "deep" / "film.MP4").touch()
    (tree / "song.m4a").touch()
    assert len(names(tree)) == 6
    monkeypatch.setitem(sys.modules, "av", None)  # as if it were not installed
    assert len(names(tree)) == 4
    message = capsys.readouterr().err
    assert "2 files left out for want of PyAV (.m4a, .mp4)" in message
    assert len(names(tree / "deep")) == 2
    assert "1 file left out for want of PyAV (.mp4)" in capsys.readouterr().err


def test_a_pipe_in_a_directory_is_left_alone(tree: Path) -> None:
    os.mkfifo(tree / "endless.wav")
    assert len(names(tree)) == 4


def test_a_directory_without_audio(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="holds no audio file"):
        names(tmp_path)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Read as a user who may not read everything, as root may."""
    user = os.geteuid()
    os.seteuid(user or 65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize(
    ("mode", "why"), [(0o000, "could not be read"), (0o444, "may not be read")]
)
def test_a_directory_that_may_not_be_read_costs_no_other_file(
    smoke_clip: Path, mode: int, why: str
) -> None:
    """One without permission to read it, and one that may be listed while its files may not."""
    with tempfile.TemporaryDirectory() as top:  # pytest's own directories are private
        for name in ("a.opus", "private/b.opus", "z.opus"):
            path = Path(top, "talks", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(smoke_clip, path)
        for path in (Path(top), Path(top, "talks")):
            path.chmod(0o755)
        private = Path(top, "talks", "private")
        private.chmod(mode)
        errors = []
        with unprivileged():
            inputs = recordings.find([f"{top}/talks"], lambda _, error: errors.append(error))
            for each in inputs:
                try:
                    assert len(audio.load(each.path))
                except AudioError as error:
                    errors.append(error)
        private.chmod(0o755)
    (error,) = errors
    assert str(error).startswith(str(private))
    assert why in str(error)
    assert {"a.opus", "z.opus"} <= {str(each.name) for each in inputs}


@pytest.mark.parametrize("suffix", sorted(recordings.SUFFIXES))
def test_every_suffix_is_one_that_is_read(tmp_path: Path, suffix: str) -> None:
    """Written by libsndfile, named so, and read again, each in the usual format."""
    usual = {".aif": "AIFF", ".aifc": "AIFF", ".mp2": "MP3", ".oga": "OGG", ".opus": "OGG",
             ".snd": "AU"}  # fmt: skip
    path = tmp_path / f"speech{suffix}"
    kind = usual.get(suffix, suffix[1:].upper())
    tone = np.sin(np.arange(16_000) / 10)
    soundfile.write(path, tone, 16_000, format=kind, subtype="OPUS" if suffix == ".opus" else None)
    assert len(audio.load(path)) == pytest.approx(16_000, abs=2000)


def test_stdin_is_a_file_for_a_while(smoke_clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = find("-")
    assert (found.label, str(found.name)) == ("stdin", "stdin")
    with smoke_clip.open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with found.opened() as path:
            assert path.read_bytes() == smoke_clip.read_bytes()
    assert not path.parent.exists()


def test_stdin_without_an_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, smoke_clip: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(spool, "LIMIT", 3 << 20)
    (found,) = find("-")
    for size in (3 << 20, (3 << 20) + 1):
        content = smoke_clip.read_bytes().ljust(size, b"\0")
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        if size <= spool.LIMIT:
            with found.opened() as path:
                assert path.stat().st_size == size
        else:
            with pytest.raises(AudioError, match="stdin holds more than"), found.opened():
                pass
    assert not list(tmp_path.iterdir())


def test_stdin_that_is_no_audio_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = find("-")
    with Path("/dev/zero").open() as endless:
        monkeypatch.setattr(sys, "stdin", endless)
        with found.opened() as path, pytest.raises(AudioError, match="of no format that is read"):
            audio.load(path)


def test_stdin_is_read_once() -> None:
    with pytest.raises(click.UsageError, match="once"):
        find("-", "-")


def test_an_empty_name_is_not_the_current_directory() -> None:
    with pytest.raises(click.UsageError, match="empty name"):
        find("")


def test_names_that_are_no_unicode_can_be_said(tmp_path: Path, smoke_clip: Path) -> None:
    path = tmp_path / "caf\udce9.opus"
    try:
        shutil.copy(smoke_clip, path)
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    (found,) = find(str(path))
    found.label.encode()
    with found.opened() as opened:
        assert opened == path
