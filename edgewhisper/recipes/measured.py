"""What the recipes that ship were measured to do: the last sweep over one model, in short.

`tools/write_tables.py` writes the file from the sweep's stored results.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from edgewhisper_runtime.bundle import Verdict, parse

FILE = Path(__file__).with_suffix(".json")


@dataclass(frozen=True)
class Row:
    """A recipe's size in bytes, its WER increase in points and the gate's verdict on it.

    `speed` is its real-time factor as a share of float32's; None where it was not timed.
    """

    weight_bytes: int
    wer_increase: float
    verdict: Verdict
    speed: float | None = None


@dataclass(frozen=True)
class Measured:
    """The model of the sweep, its data in words, and a row for each recipe by name."""

    model: str
    data: str
    rows: dict[str, Row]


def read() -> Measured:
    """Return the figures that ship with this version."""
    return parse(Measured, json.loads(FILE.read_text(encoding="utf-8")))
