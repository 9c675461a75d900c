"""LibriSpeech's downloader against a loopback server that interrupts, corrupts and lies."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgewhisper.evaluation.datasets import find_dataset, utterances
from edgewhisper.evaluation.download import ARCHIVES, Archive, fetch_split
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.errors import DataError, NetworkError
from loopback import Server, serve


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEWHISPER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def tarball(data: Path) -> bytes:
    """An archive as openslr publishes them, of two speakers, with things that must not land."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for speaker in sorted((data / "LibriSpeech" / "test-clean").iterdir())[:2]:
            tar.add(speaker, f"LibriSpeech/test-clean/{speaker.name}")
        for name in ("LibriSpeech/README.TXT", "LibriSpeech/test-clean/../../../escaped.flac",
                     "/absolute.flac"):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.size = 4
            tar.addfile(info, io.BytesIO(b"evil"))
        link = tarfile.TarInfo("LibriSpeech/test-clean/link.flac")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
    return buffer.getvalue()


@pytest.fixture
def server(tarball: bytes) -> Iterator[Server]:
    with serve({"/test-clean.tar.gz": tarball}) as running:
        yield running


def published(content: bytes) -> Archive:
    return Archive(len(content), hashlib.sha256(content).hexdigest())


def test_what_is_downloaded_is_found_and_read(
    server: Server, tarball: bytes, own_home: Path
) -> None:
    target = fetch_split(Workspace(own_home), "test-clean", server.url, published(tarball))
    dataset = find_dataset(Workspace(own_home))
    assert (dataset.name, dataset.splits) == ("LibriSpeech", ("test-clean",))
    assert len({u.speaker for u in utterances(dataset, "test-clean")}) == 2
    before = len(server.requests)
    assert fetch_split(Workspace(own_home), "test-clean", server.url, published(tarball)) == target
    assert len(server.requests) == before
    landed = {path.suffix for path in own_home.rglob("*") if path.is_file()}
    assert landed == {".flac", ".txt"}
    below = [path for path in target.rglob("*") if path.is_dir()]
    assert below
    assert all(path.stat().st_mode & 0o555 == 0o555 for path in below), "for the owner alone"
    assert not [path for path in own_home.rglob("*") if path.is_symlink()]
    assert not list(own_home.parent.rglob("*escaped*"))


def test_an_interruption_is_resumed_where_it_broke(
    server: Server, tarball: bytes, own_home: Path
) -> None:
    server.break_after = 300_000
    with pytest.raises(NetworkError, match="resumes it"):
        fetch_split(Workspace(own_home), "test-clean", server.url, published(tarball))
    fetch_split(Workspace(own_home), "test-clean", server.url, published(tarball))
    ranges = [wanted for _, _, wanted in server.requests]
    assert ranges[0] is None
    assert ranges[1] is not None
    assert 0 < int(ranges[1].removeprefix("bytes=").removesuffix("-")) <= 300_000


def test_a_server_without_ranges_starts_over(
    server: Server, tarball: bytes, own_home: Path
) -> None:
    server.break_after, server.ranges = 300_000, False
    with pytest.raises(NetworkError):
        fetch_split(Workspace(own_home), "test-clean", server.url, published(tarball))
    assert fetch_split(Workspace(own_home), "test-clean", server.url, published(tarball)).is_dir()


def test_corruption_is_found_and_the_file_deleted(
    server: Server, tarball: bytes, own_home: Path
) -> None:
    good = server.files["/test-clean.tar.gz"]
    server.files["/test-clean.tar.gz"] = good[:1000] + b"\0\0\0\0" + good[1004:]
    with pytest.raises(DataError, match="damaged on the way"):
        fetch_split(Workspace(own_home), "test-clean", server.url, published(tarball))
    assert not list(own_home.rglob("*.partial"))
    assert not list(own_home.rglob("test-clean"))
    server.files["/test-clean.tar.gz"] = good
    assert fetch_split(Workspace(own_home), "test-clean", server.url, published(tarball)).is_dir()


@pytest.mark.parametrize("surplus", [-1000, 1000])
def test_a_wrong_size_is_refused_before_it_is_downloaded(
    server: Server, tarball: bytes, surplus: int, own_home: Path
) -> None:
    content = tarball[:surplus] if surplus < 0 else tarball + bytes(surplus)
    server.files["/test-clean.tar.gz"] = content
    with pytest.raises(DataError, match="announces"):
        fetch_split(Workspace(own_home), "test-clean", server.url, published(tarball))


def test_an_unreachable_server(own_home: Path) -> None:
    with pytest.raises(NetworkError, match="could not be downloaded"):
        fetch_split(Workspace(own_home), "test-clean", "http://127.0.0.1:9")


def test_an_absent_archive(server: Server, own_home: Path) -> None:
    with pytest.raises(NetworkError, match="404"):
        fetch_split(Workspace(own_home), "dev-clean", server.url)


def test_the_published_archives_are_pinned() -> None:
    assert set(ARCHIVES) == {"dev-clean", "dev-other", "test-clean", "test-other"}
    assert all(len(bytes.fromhex(a.sha256)) == 32 and a.bytes > 3e8 for a in ARCHIVES.values())
