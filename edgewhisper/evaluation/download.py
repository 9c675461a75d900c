"""LibriSpeech's archives: resumable download, verified before anything is unpacked."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgewhisper.evaluation.librispeech import LIBRISPEECH
from edgewhisper.progress import Progress, ignore
from edgewhisper.staging import alone, new_directory
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.bundle import atomic
from edgewhisper_runtime.errors import DataError, NetworkError

SERVER = "https://www.openslr.org/resources/12"
_CHUNK = 2**18
_TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class Archive:
    """A split's archive: size in bytes and SHA-256."""

    bytes: int
    sha256: str


# As published by TensorFlow Datasets (url_checksums/librispeech.txt) and torchaudio.
ARCHIVES = {
    "dev-clean": Archive(
        337_926_286, "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3"
    ),
    "dev-other": Archive(
        314_305_928, "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365"
    ),
    "test-clean": Archive(
        346_663_984, "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23"
    ),
    "test-other": Archive(
        328_757_843, "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29"
    ),
}


def fetch_split(
    workspace: Workspace,
    split: str,
    server: str = SERVER,
    archive: Archive | None = None,
    progress: Progress = ignore,
) -> Path:
    """Return the split's directory, downloaded, verified and unpacked if it is not there yet.

    A partial download is resumed. Raises NetworkError when the server cannot be reached or
    breaks off, DataError when what came is not the archive that was published.
    """
    target = workspace.librispeech / split
    if not target.is_dir():
        with alone(target):
            if not target.is_dir():
                _fetch(split, server, archive or ARCHIVES[split], target, progress)
    return target


def _fetch(split: str, server: str, expected: Archive, target: Path, progress: Progress) -> None:
    partial = target.parent.parent / f"{split}.tar.gz.partial"
    partial.parent.mkdir(parents=True, exist_ok=True)
    with atomic.storage_errors(partial):
        _download(f"{server}/{split}.tar.gz", partial, expected, progress)
        _verify(partial, expected)
        with new_directory(target) as staging:
            _unpack(partial, split, staging)
    partial.unlink()


def _download(url: str, partial: Path, expected: Archive, progress: Progress) -> None:
    """Append to `partial` until it has the expected size."""
    import httpx2

    have = partial.stat().st_size if partial.exists() else 0
    if have > expected.bytes:
        partial.unlink()
        have = 0
    if have == expected.bytes:
        return
    headers = {"Range": f"bytes={have}-"} if have else {}
    try:
        with httpx2.stream(
            "GET", url, headers=headers, follow_redirects=True, timeout=_TIMEOUT_SECONDS
        ) as response:
            response.raise_for_status()
            resumed = response.status_code == httpx2.codes.PARTIAL_CONTENT
            have = have if resumed else 0
            announced = have + int(response.headers.get("content-length", expected.bytes - have))
            if announced != expected.bytes:
                raise DataError(
                    f"{url} announces {announced} bytes, {expected.bytes} were published. "
                    "Try another mirror with --server."
                )
            with partial.open("ab" if resumed else "wb") as file:
                for chunk in response.iter_bytes(_CHUNK):
                    have += len(chunk)
                    if have > expected.bytes:
                        raise DataError(
                            f"{url} sends more than the {expected.bytes} bytes published."
                        )
                    file.write(chunk)
                    progress(partial.name.removesuffix(".partial"), have, expected.bytes)
                file.flush()
                os.fsync(file.fileno())
    except httpx2.HTTPError as error:
        raise NetworkError(
            f"{url} could not be downloaded ({error or type(error).__name__}). "
            "What came is kept; the same command resumes it."
        ) from error
    if have < expected.bytes:
        raise NetworkError(
            f"{url} broke off at {have} of {expected.bytes} bytes. The same command resumes it."
        )


def _verify(partial: Path, expected: Archive) -> None:
    with partial.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != expected.sha256:
        partial.unlink()
        raise DataError(
            f"{partial.name.removesuffix('.partial')} was damaged on the way (SHA-256 "
            f"{digest[:12]}..., published {expected.sha256[:12]}...). It was deleted; run again."
        )


def _unpack(archive: Path, split: str, staging: Path) -> None:
    """Write the split's speech and transcripts, and nothing else, below `staging`."""
    prefix = (LIBRISPEECH, split)
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            parts = PurePosixPath(member.name).parts
            plain = parts[:2] == prefix and not {"..", "/"} & set(parts)
            if not (plain and member.isfile() and parts[-1].endswith((".flac", ".trans.txt"))):
                continue
            path = staging.joinpath(*parts[2:])
            path.parent.mkdir(parents=True, exist_ok=True)
            content = tar.extractfile(member)
            if content is None:
                continue
            with content, path.open("wb") as file:
                shutil.copyfileobj(content, file)
