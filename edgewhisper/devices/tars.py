"""Tar archives of the same bytes each time, for packages of Linux and image layers."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from edgewhisper.devices.contents import Contents
from edgewhisper.devices.unpacking import LAUNCHER, shell_launcher

_LEVEL = 6  # of 9, which takes twice the time for 1 % less
ROOT = "/usr/lib/edgewhisper"


class Tar:
    """Adds files to a tar archive, each with its directories before it, all owned by root."""

    def __init__(self, archive: tarfile.TarFile, prefix: str) -> None:
        self._archive = archive
        self._prefix = prefix
        self._directories: set[PurePosixPath] = set()

    def file(self, name: str, source: Path) -> None:
        """Add a file's content under an absolute name."""
        with source.open("rb") as content:
            entry = self._entry(name)
            entry.size = source.stat().st_size
            self._archive.addfile(entry, content)

    def text(self, name: str, text: str, mode: int = 0o644) -> None:
        """Add a file of a text."""
        content = text.encode()
        entry = self._entry(name)
        entry.size, entry.mode = len(content), mode
        self._archive.addfile(entry, io.BytesIO(content))

    def link(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        entry = self._entry(name)
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, target, 0o777
        self._archive.addfile(entry)

    def _entry(self, name: str) -> tarfile.TarInfo:
        path = PurePosixPath(name.lstrip("/"))
        for directory in reversed(path.parents[:-1]):
            if directory not in self._directories:
                self._directories.add(directory)
                entry = tarfile.TarInfo(f"{self._prefix}{directory}")
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                self._archive.addfile(entry)
        return tarfile.TarInfo(f"{self._prefix}{path}")


@contextmanager
def write(file: IO[bytes], prefix: str = "") -> Iterator[Tar]:
    """Write a tar archive compressed by gzip; `prefix` is "./" as Debian's packages have it."""
    with (
        gzip.GzipFile("", "wb", _LEVEL, fileobj=file, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.GNU_FORMAT) as archive,
    ):
        yield Tar(archive, prefix)


def add_installation(tar: Tar, contents: Contents, python: str) -> None:
    """Add a package's contents below ROOT, and on the path the program that runs it."""
    for path in contents.paths():
        tar.file(f"{ROOT}/{path.relative_to(contents.root).as_posix()}", path)
    launcher = f"{ROOT}/bin/{LAUNCHER}"
    tar.text(launcher, shell_launcher(python, contents.manifest.bundle), 0o755)
    tar.link(f"/usr/bin/{LAUNCHER}", launcher)
