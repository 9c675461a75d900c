"""`edgewhisper`, also as `python -m edgewhisper`."""

from __future__ import annotations

from typing import NoReturn

from edgewhisper_runtime.__main__ import start


def main() -> NoReturn:
    """Entry point of `edgewhisper`."""
    start("edgewhisper.cli")


if __name__ == "__main__":
    main()
