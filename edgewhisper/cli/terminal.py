"""The host's messages and progress bars on stderr."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click


class _Stderr(logging.Handler):
    """Writes messages as they are, warnings marked as such."""

    def emit(self, record: logging.LogRecord) -> None:
        mark = "warning: " if record.levelno >= logging.WARNING else ""
        click.echo(f"{mark}{record.getMessage()}", err=True)


def show_messages() -> None:
    """Write what the library logs to stderr."""
    logger = logging.getLogger("edgewhisper")
    logger.setLevel(logging.INFO)
    if not any(isinstance(handler, _Stderr) for handler in logger.handlers):
        logger.addHandler(_Stderr())


def show_bundle(bundle: Path, *, as_json: bool) -> None:
    """Write where a bundle was installed, and how it gets elsewhere."""
    click.echo(f"bundle: {bundle}", err=as_json)
    for wheel in bundle.glob("*.whl"):
        click.echo(f"to run it elsewhere: pip install {wheel}", err=True)
        click.echo(f"without internet: edgewhisper package {bundle} --for PLATFORM", err=True)


class Bars:
    """Shows one progress bar after another."""

    def __init__(self, unit: str = "utt") -> None:
        self._unit = unit
        self._task = ""
        self._bar: Any = None

    def __call__(self, task: str, done: int, total: int) -> None:
        """Move the task's bar, or begin one where it is another task."""
        from tqdm import tqdm

        if task != self._task or self._bar is None:
            self.close()
            scaled = self._unit == "B"
            self._bar = tqdm(
                desc=task, initial=done, total=total, unit=self._unit, unit_scale=scaled,
                mininterval=1.0,
            )  # fmt: skip
            self._task = task
        self._bar.update(done - self._bar.n)
        if done == total:
            self.close()

    def close(self) -> None:
        """End the bar that is shown."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
