"""The installed runtime packed as a wheel again, so that a bundle includes its runtime."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from importlib import metadata
from pathlib import Path

import edgewhisper_runtime
from edgewhisper_runtime.bundle import atomic

_DISTRIBUTION = "edgewhisper-runtime"
_TAG = "py3-none-any"
_WHEEL = ("Wheel-Version: 1.0", "Generator: edgewhisper", "Root-Is-Purelib: true", f"Tag: {_TAG}")
# Only editable installations, which developers have, need this requirement.
_EDITABLE = "Requires-Dist: editables"


def write_runtime_wheel(directory: Path) -> Path:
    """Write the wheel of the runtime that is running; the same bytes each time.

    The format is that of PEP 427; requirements are those of the installed distribution.
    """
    installed = metadata.distribution(_DISTRIBUTION)
    package = Path(edgewhisper_runtime.__file__).parent
    stem = f"{_DISTRIBUTION.replace('-', '_')}-{installed.version}"
    described = installed.read_text("METADATA") or ""
    metadata_lines = [line for line in described.splitlines() if not line.startswith(_EDITABLE)]
    contents = {
        f"{package.name}/{path.relative_to(package).as_posix()}": path.read_bytes()
        for path in sorted(package.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    notes = {
        "METADATA": "\n".join(metadata_lines) + "\n",
        "WHEEL": "\n".join(_WHEEL) + "\n",
        "entry_points.txt": installed.read_text("entry_points.txt") or "",
    }
    contents |= {f"{stem}.dist-info/{name}": text.encode() for name, text in notes.items()}
    record = f"{stem}.dist-info/RECORD"
    lines = [f"{name},sha256={_digest(c)},{len(c)}" for name, c in contents.items()]
    contents[record] = "\n".join([*lines, f"{record},,", ""]).encode()
    path = directory / f"{stem}-{_TAG}.whl"
    with atomic.storage_errors(path), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in contents.items():
            wheel.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return path


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
