"""A page as data: sections of texts, tables, plots and marked texts, rendered as one HTML file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

_TEMPLATES = Path(__file__).parent / "page"
Tone = Literal["good", "bad", "open"]
# Colours by role; text and marks have 4.5 to 1 on the ground (WCAG 2.2, 1.4.3).
PALETTES = {
    "light": {
        "ground": "#ffffff", "text": "#1b1f24", "quiet": "#57606a", "line": "#d0d7de",
        "panel": "#f6f8fa", "good": "#116329", "bad": "#a40e26", "open": "#7d4e00",
        "marked": "#fff3c4", "marked-text": "#1b1f24",
    },
    "dark": {
        "ground": "#0f1216", "text": "#e6edf3", "quiet": "#9aa5b1", "line": "#343b44",
        "panel": "#181d23", "good": "#56d364", "bad": "#ff8f88", "open": "#e3b341",
        "marked": "#574400", "marked-text": "#ffffff",
    },
}  # fmt: skip


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar = "text"
    text: str


@dataclass(frozen=True)
class Plot:
    """A picture, as SVG of our own making, and what it shows in words."""

    kind: ClassVar = "plot"
    svg: str
    description: str


@dataclass(frozen=True)
class Column:
    """A column's head; numbers are aligned to the right."""

    name: str
    numeric: bool = True


@dataclass(frozen=True)
class Table:
    """Rows of cells under heads; the first cell of a row is its head."""

    kind: ClassVar = "table"
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Words:
    """Words of a text that stand together, and whether they are marked."""

    text: str
    marked: bool = False


@dataclass(frozen=True)
class Version:
    """A text and whose it is."""

    name: str
    words: tuple[Words, ...]


@dataclass(frozen=True)
class Versions:
    """Several versions of the same utterance's text, and what distinguishes them in a few words."""

    kind: ClassVar = "versions"
    name: str
    note: str
    versions: tuple[Version, ...]


@dataclass(frozen=True)
class Folded:
    """Blocks that are shown on demand."""

    kind: ClassVar = "folded"
    summary: str
    blocks: tuple[Block, ...]


Block = Text | Plot | Table | Versions | Folded


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Figure:
    """A number with its unit and what it counts, shown large."""

    value: str
    name: str
    note: str = ""


@dataclass(frozen=True)
class Page:
    """A report as a page: the verdict in a word and a sentence, then figures and sections."""

    title: str
    verdict: str
    tone: Tone
    sentence: str
    figures: tuple[Figure, ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...] = field(default=())


def render(page: Page) -> str:
    """Return the page as HTML that needs nothing else; every text in it is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.jinja").render(page=page, palettes=PALETTES) + "\n"
