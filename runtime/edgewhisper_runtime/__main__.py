"""`edgewhisper-runtime`, also as `python -m edgewhisper_runtime`.

Ctrl-C ends in order while the command line is still being imported, so this imports nothing else.
"""

from __future__ import annotations

import signal
import sys
from importlib import import_module
from typing import NoReturn

INTERRUPTED = 130  # 128 + SIGINT, as shells do


def take_interrupts() -> None:
    """Have SIGINT raise KeyboardInterrupt.

    A shell's background jobs start with SIGINT ignored, but who sends it means this process.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


def start(command_line: str) -> NoReturn:
    """Import the module of a command line, and run its `main`."""
    take_interrupts()
    try:
        sys.exit(import_module(command_line).main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def main() -> NoReturn:
    """Entry point of `edgewhisper-runtime`."""
    start("edgewhisper_runtime.cli")


if __name__ == "__main__":
    main()
