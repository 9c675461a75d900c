"""Machines of other kinds, as directories of their /proc and /sys, and this one kept busy."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def lay(root: Path, files: dict[str, str]) -> Path:
    """Write files below a directory and return it."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@contextmanager
def other_work() -> Iterator[None]:
    """Keep every processor busy with other processes."""
    command = [sys.executable, "-c", "while True: pass"]
    working = [subprocess.Popen(command) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in working:
            process.kill()
            process.wait()
