"""A package as an OCI image on a base of the user's, written without a container engine.

The formats are those of opencontainers/image-spec 1.1: image-layout.md, manifest.md, config.md.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewhisper.devices import tars
from edgewhisper.devices.contents import Contents
from edgewhisper.devices.platforms import Platform
from edgewhisper.devices.unpacking import LAUNCHER
from edgewhisper_runtime.bundle import decode_json
from edgewhisper_runtime.errors import DeviceError

_TYPE = "application/vnd.oci.image"
_INDEX, _MANIFEST = f"{_TYPE}.index.v1+json", f"{_TYPE}.manifest.v1+json"
_CONFIG, _LAYER = f"{_TYPE}.config.v1+json", f"{_TYPE}.layer.v1.tar"
_LAYOUT = '{"imageLayoutVersion": "1.0.0"}'
_GZIP = b"\x1f\x8b"
_LOADERS = {"amd64": "ld-linux-x86-64.so.2", "arm64": "ld-linux-aarch64.so.1"}  # glibc's
GET_BASE = (
    "Get one with `skopeo copy --override-arch ARCH docker://python:3.11-slim oci:DIR`, or make "
    "one with `mmdebstrap --include=python3,libstdc++6 bookworm base.tar`"
)


@dataclass(frozen=True)
class _Layer:
    """A tar archive, compressed by gzip or not, and the digest of it uncompressed."""

    path: Path
    diff_id: str

    @property
    def media_type(self) -> str:
        return f"{_LAYER}+gzip" if _is_gzip(self.path) else _LAYER


@dataclass(frozen=True)
class _Base:
    layers: tuple[_Layer, ...]
    config: dict[str, Any]


def write_oci(contents: Contents, path: Path, base: Path) -> None:
    """Write an image layout as a tar archive; its command takes the runtime's arguments.

    `base` is the directory of an image layout, or the tar archive of a root file system, with
    glibc, libstdc++ and the Python of the package. Raises DeviceError for another base.
    """
    found, python = _read_base(base, contents)
    with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
        layer, layout = Path(temporary, "layer.tar.gz"), Path(temporary, "layout")
        with layer.open("wb") as file, tars.write(file) as tar:
            tars.add_installation(tar, contents, python)
        layers = (*found.layers, _Layer(layer, _diff_id(layer)))
        _write_layout(layout, contents, found.config, layers)
        with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
            for each in sorted(layout.rglob("*")):
                name = each.relative_to(layout).as_posix()
                archive.add(each, name, recursive=False, filter=_plain)


def _read_base(path: Path, contents: Contents) -> tuple[_Base, str]:
    """Return the base and the path of the package's Python in it."""
    try:
        base = _read_layout(path, contents.platform) if path.is_dir() else _read_tar(path)
        return base, _find_python(base, path, contents)
    except (
        OSError,
        EOFError,
        LookupError,
        TypeError,
        ValueError,
        tarfile.TarError,
    ) as error:
        raise DeviceError(f"{path} is no base to build on ({error}). {GET_BASE}.") from error
    except zlib.error as error:
        raise DeviceError(f"{path} is damaged ({error}). {GET_BASE}.") from error


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Return an entry without what differs from one run to the next."""
    entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = 0, 0, 0, "", ""
    entry.mode = 0o755 if entry.isdir() else 0o644
    return entry


def _read_tar(path: Path) -> _Base:
    return _Base((_Layer(path, _diff_id(path)),), {})


def _read_layout(directory: Path, platform: Platform) -> _Base:
    """Read the image of the platform's processor from an image layout, verifying each blob."""
    document: dict[str, Any] = decode_json((directory / "index.json").read_bytes())
    while "manifests" in document:
        descriptors = document["manifests"]
        fitting = [
            each
            for each in descriptors
            if each.get("platform", {}).get("architecture", platform.architecture)
            == platform.architecture
        ]
        if not fitting:
            raise ValueError(f"it has no image for {platform.architecture}")
        document = decode_json(_blob(directory, fitting[0]).read_bytes())
    config = decode_json(_blob(directory, document["config"]).read_bytes())
    if config["architecture"] != platform.architecture:
        raise ValueError(f"it is for {config['architecture']}, not {platform.architecture}")
    paths = [_blob(directory, each) for each in document["layers"]]
    diff_ids = config["rootfs"]["diff_ids"]
    layers = zip(paths, diff_ids, strict=True)
    return _Base(tuple(_Layer(layer, diff_id) for layer, diff_id in layers), config)


def _blob(directory: Path, descriptor: dict[str, Any]) -> Path:
    algorithm, _, digest = descriptor["digest"].partition(":")
    if algorithm != "sha256" or not re.fullmatch("[0-9a-f]{64}", digest):
        raise ValueError(f"it has a digest {descriptor['digest']}")
    path = directory / "blobs" / "sha256" / digest
    if _digest(path) != digest:
        raise ValueError(f"{path.name} was altered")
    return path


def _find_python(base: _Base, path: Path, contents: Contents) -> str:
    """Return the path of the package's Python in the base."""
    platform, python = contents.platform, contents.manifest.python
    names = [name for layer in base.layers for name in _names(layer.path)]
    loader = _LOADERS[platform.architecture]
    if not any(name.endswith(f"/{loader}") for name in names):
        raise ValueError(f"it has no glibc for {platform.machine}: {loader} is missing")
    program = re.compile(rf"(usr/|usr/local/)?bin/python{re.escape(python)}")
    for name in names:
        if program.fullmatch(name):
            return f"/{name}"
    raise DeviceError(f"{path} has no Python {python}. Choose it by --python, or another base.")


def _names(layer: Path) -> Iterator[str]:
    # an image's layers have no other compression
    with tarfile.open(layer, "r:gz" if _is_gzip(layer) else "r:") as archive:
        for member in archive:
            yield member.name.removeprefix("./")


def _write_layout(
    root: Path, contents: Contents, base: dict[str, Any], layers: tuple[_Layer, ...]
) -> None:
    blobs = root / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    name = contents.manifest.name

    def add(content: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    descriptors = []
    for layer in layers:
        digest = _digest(layer.path)
        shutil.copyfile(layer.path, blobs / digest)
        descriptors.append(
            {
                "mediaType": layer.media_type,
                "digest": f"sha256:{digest}",
                "size": layer.path.stat().st_size,
            }
        )
    config = {
        **{key: value for key, value in base.items() if key != "history"},
        "architecture": contents.platform.architecture,
        "os": "linux",
        "config": {
            **(base.get("config") or {}),
            "Entrypoint": [f"{tars.ROOT}/bin/{LAUNCHER}"],
            "Cmd": ["--help"],
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": add(json.dumps(config).encode(), _CONFIG),
        "layers": descriptors,
    }
    described = {
        **add(json.dumps(manifest).encode(), _MANIFEST),
        "platform": {"architecture": contents.platform.architecture, "os": "linux"},
        "annotations": {  # the second is what containerd, and so Docker, names the image by
            "org.opencontainers.image.ref.name": "latest",
            "io.containerd.image.name": f"docker.io/library/{name.lower()}:latest",
        },
    }
    index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [described]}
    (root / "index.json").write_text(json.dumps(index), encoding="utf-8")
    (root / "oci-layout").write_text(_LAYOUT, encoding="utf-8")


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_GZIP)) == _GZIP


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _diff_id(path: Path) -> str:
    if not _is_gzip(path):
        return f"sha256:{_digest(path)}"
    with gzip.open(path) as file:
        digest = hashlib.sha256()
        while chunk := file.read(2**20):
            digest.update(chunk)
        return f"sha256:{digest.hexdigest()}"
