"""The progress of a long task, reported to a callback."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called repeatedly with the name of a task and the number of its units that are done.

    A task begins with its first call, and is over when `done` is `total` or another one begins.
    """

    def __call__(self, task: str, done: int, total: int) -> None:
        """Report progress; the work goes on when this returns."""


def ignore(task: str, done: int, total: int) -> None:
    """Report nothing."""
