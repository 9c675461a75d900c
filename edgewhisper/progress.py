"""How far a long task is, told to whoever asked for it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called with the name of a task, and how many of its units are done, again and again.

    A task begins with its first call, and is over when `done` is `total` or another one begins.
    """

    def __call__(self, task: str, done: int, total: int) -> None:
        """Take note of it; the work goes on when this returns."""


def ignore(task: str, done: int, total: int) -> None:
    """Take no note."""
