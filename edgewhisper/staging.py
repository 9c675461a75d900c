"""Directories that are either whole or absent, each made by one process at a time.

A process holds a file lock while it works on a target. The kernel releases the lock however the
process ends, and it works between containers that share a volume, where process numbers do not
help. So unfinished work of others that the holder of the lock sees is abandoned.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgewhisper_runtime.bundle import atomic
from edgewhisper_runtime.errors import StorageError

_log = logging.getLogger(__name__)
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}
_UNFINISHED = re.compile(r"\.(?P<target>.+)\.(new|old|lock)")
_RENAME_EXCHANGE = 2  # linux/fs.h
_AT_FDCWD = -100  # linux/fcntl.h


@contextmanager
def alone(target: Path) -> Iterator[None]:
    """Hold the lock of a target; wait for another process that holds it, and log that.

    Another process may have made the target meanwhile, so look for it inside the block. A thread
    may take a lock that it already holds. Raises StorageError where the file system has no locks.
    """
    from filelock import FileLock, Timeout

    with atomic.storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        path = _beside(target, "lock")
        lock = FileLock(path, is_singleton=True, fallback_to_soft=False)
        try:
            try:
                lock.acquire(timeout=0)
            except Timeout:
                _log.info("waiting for another process that makes %s", target)
                lock.acquire()
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            raise StorageError(
                f"{path} cannot be locked ({error.strerror}): its file system has no locks, and "
                "two processes could destroy each other's work. Choose another place "
                "(EDGEWHISPER_HOME, --output)."
            ) from error
    try:
        yield
    finally:
        if lock.lock_counter == 1:
            with suppress(PermissionError):  # Windows: an open file is removed by its release
                path.unlink(missing_ok=True)
        lock.release()


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """Yield an empty directory beside `target`; it becomes `target` when the block succeeds.

    Holds the target's lock meanwhile. An existing target is replaced in one step; when the block
    fails it stays as it was.
    """
    with alone(target), atomic.storage_errors(target):
        staging, replaced = _beside(target, "new"), _beside(target, "old")
        if replaced.exists() and not target.exists():  # a kill between two renames
            replaced.rename(target)
        for abandoned in (staging, replaced):
            shutil.rmtree(abandoned, ignore_errors=True)
        staging.mkdir(mode=0o700)
        try:
            yield staging
            staging.chmod(0o755)
            for path in staging.iterdir():
                if path.is_file():
                    path.chmod(0o644)  # safetensors makes its files private
            _replace(staging, target, replaced)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def is_unfinished(path: Path) -> bool:
    """Tell whether a path is the unfinished, the replaced or the lock beside a target."""
    return _UNFINISHED.fullmatch(path.name) is not None


def remove(path: Path) -> bool:
    """Delete a target, or what is unfinished beside one; False where a process works on it.

    A directory leaves its place in one step, so that nobody finds half of it.
    """
    from filelock import FileLock, Timeout

    match = _UNFINISHED.fullmatch(path.name)
    target = path.with_name(match["target"]) if match else path
    lock = FileLock(_beside(target, "lock"), is_singleton=True, fallback_to_soft=False)
    with atomic.storage_errors(path):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        try:
            if path.is_dir() and not path.is_symlink():
                abandoned = _beside(target, "new")
                if not match:
                    shutil.rmtree(abandoned, ignore_errors=True)
                    path.rename(abandoned)
                shutil.rmtree(path if match else abandoned)
            elif path != _beside(target, "lock"):
                path.unlink(missing_ok=True)
        finally:
            with suppress(PermissionError):  # as above
                _beside(target, "lock").unlink(missing_ok=True)
            lock.release()
    return True


def _beside(target: Path, kind: str) -> Path:
    return target.parent.resolve() / f".{target.name}.{kind}"


def _replace(source: Path, target: Path, aside: Path) -> None:
    """Move `source` to `target` on the same file system, replacing a directory that is there.

    At every moment `target` is the old directory or the new one. Where the system cannot exchange
    two directories in one step, for an instant there is only the old one, at `aside`.
    """
    for path in source.rglob("*"):
        _sync(path)
    _sync(source)
    if not target.exists():
        source.rename(target)
    elif _exchange(source, target):
        shutil.rmtree(source)
    else:
        target.rename(aside)
        source.rename(target)
        shutil.rmtree(aside)
    _sync(target.parent)


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
