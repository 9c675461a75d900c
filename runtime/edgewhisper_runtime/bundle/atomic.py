"""Writes that are either whole or absent, whatever interrupts them."""

from __future__ import annotations

import ctypes
import errno
import glob
import os
import platform
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgewhisper_runtime.errors import StorageError

_RENAME_EXCHANGE = 2  # linux/fs.h
_AT_FDCWD = -100  # linux/fcntl.h


def write_text(path: Path, text: str) -> None:
    """Write the file through a temporary one in the same directory, synced, then renamed."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{secrets.token_hex(8)}")  # no longer than the name may be
        try:
            with beside.open("x", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """Yield an empty directory beside `target`; it becomes `target` when the block succeeds.

    An existing target is replaced in one step; when the block fails it stays as it was.
    """
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target)
        staging = _beside(target)
        try:
            yield staging
            staging.chmod(0o755)
            for path in staging.iterdir():
                if path.is_file():
                    path.chmod(0o644)  # safetensors makes its files private
            replace_directory(staging, target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def replace_directory(source: Path, target: Path) -> None:
    """Move `source` to `target` on the same file system, replacing a directory that is there.

    At every moment `target` is the old directory or the new one. Where the system cannot
    exchange two directories in one step, there is an instant with neither.
    """
    for path in source.rglob("*"):
        _sync(path)
    _sync(source)
    with storage_errors(target):
        if not target.exists():
            source.rename(target)
        else:
            if not _exchange(source, target):
                aside = _beside(target)
                target.rename(aside / target.name)
                source.rename(target)
                source = aside
            shutil.rmtree(source)
        _sync(target.parent)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn a full or read-only disk into a StorageError that names the path."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise StorageError(
                f"no space left while writing {path}. Free some, or choose another place; "
                "what was there before is unchanged."
            ) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise StorageError(
                f"{path} may not be written ({error.strerror}). Choose another place."
            ) from error
        raise


def _beside(target: Path) -> Path:
    """Return a new directory beside `target` whose name says for which, and whose it is."""
    prefix = f".{target.name}.{_host()}-{os.getpid()}."
    return Path(tempfile.mkdtemp(dir=target.parent, prefix=prefix))


def _host() -> str:
    return platform.node().partition(".")[0]


def _remove_abandoned(target: Path) -> None:
    """Remove what processes of this host that no longer live left of their work on this target."""
    import psutil

    prefix = f".{target.name}.{_host()}-"
    for path in target.parent.glob(f"{glob.escape(prefix)}*.*"):
        owner, _, random = path.name.removeprefix(prefix).partition(".")
        if owner.isdigit() and "." not in random and not psutil.pid_exists(int(owner)):
            shutil.rmtree(path, ignore_errors=True)


def _sync(path: Path) -> None:
    with suppress(PermissionError):  # Windows cannot open directories
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two directories in one step (renameat2(2)); False where that is not possible."""
    if sys.platform != "linux":
        return False
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    result = renameat2(
        _AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE
    )
    return bool(result == 0)
