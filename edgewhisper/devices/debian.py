"""A package as a .deb, for Debian, Ubuntu and Raspberry Pi OS; written without dpkg.

The format is deb(5): an ar archive of two tar archives.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import IO

from edgewhisper.devices import tars
from edgewhisper.devices.contents import Contents
from edgewhisper.devices.unpacking import CLIP, LAUNCHER, NO_TEXT

# dpkg checks no hash of what it unpacks; the runtime verifies the bundle when it opens it.
_CONFIGURE = """\
#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
{root}/bin/{launcher} transcribe {root}/{clip} > /dev/null || [ $? -eq {no_text} ]
"""
_REMOVE = """\
#!/bin/sh
set -e
find {root} -name __pycache__ -type d -prune -exec rm -rf {{}} +
"""


def write_deb(contents: Contents, path: Path) -> None:
    """Write a .deb that puts the runtime on the path, with the bundle as its default."""
    with tempfile.TemporaryFile() as control, tempfile.TemporaryFile() as data:
        with tars.write(data, "./") as tar:
            tars.add_installation(tar, contents, f"/usr/bin/python{contents.manifest.python}")
        with tars.write(control, "./") as tar:
            _add_control(tar, contents)
        with path.open("wb") as file:
            file.write(b"!<arch>\n")
            _add_member(file, "debian-binary", b"2.0\n")
            for name, part in (("control.tar.gz", control), ("data.tar.gz", data)):
                part.seek(0)
                _add_member(file, name, part.read())


def _add_control(tar: tars.Tar, contents: Contents) -> None:
    manifest = contents.manifest
    major, minor = map(int, manifest.python.split("."))
    glibc = ".".join(map(str, manifest.glibc))
    kilobytes = sum(path.stat().st_size for path in contents.paths()) // 1024 + 1
    fields = {
        "Package": LAUNCHER,
        "Version": manifest.version,
        "Architecture": contents.platform.architecture,
        "Maintainer": "edgewhisper package",
        "Installed-Size": kilobytes,
        "Depends": f"python3 (>= {manifest.python}), python3 (<< {major}.{minor + 1}), "
        f"libc6 (>= {glibc}), libstdc++6",
        "Section": "sound",
        "Priority": "optional",
        "Description": f"Whisper on this device: the bundle {manifest.bundle} and its runtime",
    }
    scripts = {"postinst": _CONFIGURE, "prerm": _REMOVE}
    tar.text("control", "".join(f"{name}: {value}\n" for name, value in fields.items()))
    tar.text("md5sums", "".join(_sum(path, contents.root) for path in contents.paths()))
    for name, script in scripts.items():
        text = script.format(root=tars.ROOT, launcher=LAUNCHER, clip=CLIP, no_text=NO_TEXT)
        tar.text(name, text, 0o755)


def _sum(path: Path, root: Path) -> str:
    """Return a file's line for `dpkg --verify`."""
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False))
    name = f"{tars.ROOT}/{path.relative_to(root).as_posix()}".lstrip("/")
    return f"{digest.hexdigest()}  {name}\n"


def _add_member(file: IO[bytes], name: str, content: bytes) -> None:
    """Add a member to an ar archive: a header of 60 characters, and content of even length."""
    file.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode())
    file.write(content + b"\n" * (len(content) % 2))
