"""What a package holds, as a directory: a bundle, its runtime, all that it needs, and hashes.

package.json    what this is for, the wheels that are in it, and size and SHA-256 of every file
bundle/NAME/    the bundle
lib/            the wheels, unpacked: what Python imports
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgewhisper import wheel
from edgewhisper.devices import wheels
from edgewhisper.devices.platforms import OLDEST_GLIBC, Platform
from edgewhisper_runtime.bundle import Artefact, File, atomic, describe_file, to_json
from edgewhisper_runtime.errors import DeviceError

_log = logging.getLogger(__name__)
MANIFEST = "package.json"
_SCHEMA = "1.0"


@dataclass(frozen=True)
class Manifest:
    """The contents of package.json.

    `bundle` is empty for a runtime without one; `glibc` is the oldest that Linux may have;
    `wheels` has the SHA-256 of each wheel as it was downloaded, `files` lists what they became.
    """

    name: str
    platform: str
    system: str
    machine: str
    python: str
    glibc: tuple[int, int]
    bundle: str
    version: str
    wheels: dict[str, str]
    files: dict[str, File]


@dataclass(frozen=True)
class Contents:
    """A directory with all of a package's files, and the manifest of them."""

    root: Path
    manifest: Manifest
    platform: Platform

    def paths(self) -> list[Path]:
        """Return every file, in one order."""
        return sorted(path for path in self.root.rglob("*") if path.is_file())


@contextmanager
def gather(
    artefact: Artefact,
    platform: Platform,
    python: str,
    extras: Sequence[str] = (),
    *,
    with_bundle: bool = True,
) -> Iterator[Contents]:
    """Yield the contents of a package in a temporary directory.

    The runtime is the one that runs here, never the wheel in the bundle, which may be a stranger's.
    Raises DeviceError for a bundle that needs more than the runtime, and what `wheels.collect`
    raises.
    """
    manifest = artefact.manifest
    if manifest.backend != "onnx":
        raise DeviceError(
            f"{artefact.path} runs on the {manifest.backend!r} engine, and a package holds no "
            "PyTorch. Build the bundle with --export onnx, from a recipe that has it."
        )
    with tempfile.TemporaryDirectory() as temporary, atomic.storage_errors(Path(temporary)):
        root, downloads = Path(temporary, "root"), Path(temporary, "wheels")
        for directory in (root, downloads):
            directory.mkdir()
        runtime = wheel.write_runtime_wheel(downloads)
        _log.info("getting the wheels for %s and Python %s", platform.name, python)
        chosen = wheels.collect(
            runtime, platform, python, downloads, extras, dict(manifest.libraries)
        )
        for each in chosen:
            unpack(each, root / "lib")
        if with_bundle:
            shutil.copytree(artefact.path, root / "bundle" / manifest.name)
        described = Manifest(
            name=manifest.name if with_bundle else wheels.RUNTIME,
            platform=platform.name,
            system=platform.system,
            machine=platform.machine,
            python=python,
            glibc=OLDEST_GLIBC,
            bundle=manifest.name if with_bundle else "",
            version=runtime.name.split("-")[1],
            wheels={path.name: describe_file(path).sha256 for path in chosen},
            files={
                path.relative_to(root).as_posix(): describe_file(path)
                for path in sorted(root.rglob("*"))
                if path.is_file()
            },
        )
        text = json.dumps({"schema": _SCHEMA, **to_json(described)}, indent=1) + "\n"
        (root / MANIFEST).write_text(text, encoding="utf-8")
        yield Contents(root, described, platform)


def unpack(path: Path, directory: Path) -> None:
    """Unpack a wheel's modules and metadata into `directory` (PEP 427).

    Scripts and headers are left out: the runtime needs none of another distribution.
    """
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.is_dir():
                continue
            parts = PurePosixPath(member.filename).parts
            if parts[0].endswith(".data"):
                if parts[1] not in {"purelib", "platlib"}:
                    continue
                parts = parts[2:]
            if {"..", "/"} & set(parts) or "\\" in member.filename:
                raise DeviceError(f"{path.name} holds a file named {member.filename}. Refused.")
            target = directory.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file)
