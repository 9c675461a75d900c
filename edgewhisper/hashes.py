"""SHA-256 of files, computed again only when a file's size or time has changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from edgewhisper_runtime.bundle import File, atomic

_WRITTEN_AT_ONCE = 1000  # hashes


class HashCache:
    """Remembers hashes of files by path, size and modification time, in one file on disk.

    Every line of it is "KEY SHA-256". Several processes may append to it at the same time. A
    changed file has another key, so its old line is never used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, str] = {}

    def digest(self, files: Sequence[Path]) -> str:
        """Return the SHA-256 in hex of the files' contents, one after the other."""
        key = _key(files)
        if key not in self._known:
            self._read()
        if key not in self._known:
            self._write({key: _digest(files)})
        return self._known[key]

    def digests(self, files: Sequence[Path]) -> list[str]:
        """Return the SHA-256 in hex of each file's content."""
        keys = [_key([path]) for path in files]
        if not self._known.keys() >= set(keys):
            self._read()
        missing = {k: path for k, path in zip(keys, files, strict=True) if k not in self._known}
        for first in range(0, len(missing), _WRITTEN_AT_ONCE):
            some = list(missing.items())[first : first + _WRITTEN_AT_ONCE]
            self._write({key: _digest([path]) for key, path in some})
        return [self._known[key] for key in keys]

    def describe(self, path: Path) -> File:
        """Return the size in bytes and the SHA-256 of one file."""
        return File(path.stat().st_size, self.digest([path]))

    def remember(self, directory: Path, hashes: dict[str, str]) -> None:
        """Store known hashes of files in a directory, by name, without reading the files."""
        self._write({_key([directory / name]): sha256 for name, sha256 in hashes.items()})

    def _read(self) -> None:
        if self._path.exists():
            lines = (line.split() for line in self._path.read_text(encoding="utf-8").splitlines())
            self._known |= {line[0]: line[1] for line in lines if [*map(len, line)] == [64, 64]}

    def _write(self, new: dict[str, str]) -> None:
        self._known |= new
        with atomic.storage_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write("".join(f"{key} {sha256}\n" for key, sha256 in new.items()))


def _digest(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as content:
            hashlib.file_digest(content, lambda: digest)
    return digest.hexdigest()


def _key(files: Sequence[Path]) -> str:
    """Return a key for the files in their present state."""
    stats = [(path.resolve(), path.stat()) for path in files]
    state = [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats]
    return hashlib.sha256(json.dumps(state).encode()).hexdigest()
