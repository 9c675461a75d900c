"""A package as a zip file that Python runs: one that installs, or one that runs the runtime."""

from __future__ import annotations

import zipfile
from pathlib import Path

from edgewhisper.devices import unpacking
from edgewhisper.devices.contents import Contents

_MAIN = "from unpacking import main\n\nmain(runs_itself={})\n"


def write_zip(contents: Contents, path: Path) -> None:
    """Write a zip file whose `python FILE install DIR` installs it."""
    _write(contents, path, runs_itself=False)


def write_zipapp(contents: Contents, path: Path) -> None:
    """Write an executable zip file that takes the runtime's own arguments (PEP 441).

    It installs itself into the user's cache first, as compiled modules cannot be imported from a
    zip file. shiv and pex do so too, but check no hash of what they unpack.
    """
    with path.open("wb") as file:
        file.write(f"#!/usr/bin/env python{contents.manifest.python}\n".encode())
    _write(contents, path, runs_itself=True)
    path.chmod(0o755)


def _write(contents: Contents, path: Path, *, runs_itself: bool) -> None:
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        programs = {
            "__main__.py": _MAIN.format(runs_itself).encode(),
            "unpacking.py": Path(unpacking.__file__).read_bytes(),
        }
        for name, content in programs.items():
            archive.writestr(_entry(name), content)
        for each in contents.paths():
            entry = _entry(each.relative_to(contents.root).as_posix())
            with each.open("rb") as source, archive.open(entry, "w") as target:
                while chunk := source.read(2**20):
                    target.write(chunk)


def _entry(name: str) -> zipfile.ZipInfo:
    """Return an entry of a fixed date, so that the same contents give the same bytes."""
    entry = zipfile.ZipInfo(name)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry
