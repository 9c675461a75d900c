"""Tables on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgewhisper.reports.view import Block, Page


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as lines, every column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def page_tables(page: Page) -> str:
    """Return the sentence, the notes, and the texts and tables of a page's sections but the last.

    The last tells how to repeat it, which is in the files of a report.
    """
    blocks = (block for section in page.sections[:-1] for block in section.blocks)
    return "\n".join([page.sentence, *page.notes, *_texts(blocks)])


def _texts(blocks: Iterable[Block]) -> Iterator[str]:
    from edgewhisper.reports.view import Folded, Table, Text

    for block in blocks:
        if isinstance(block, Text):
            yield block.text
        elif isinstance(block, Table):
            heads = [column.name for column in block.columns]
            yield f"\n{block.caption}"
            yield aligned([heads, *block.rows])
        elif isinstance(block, Folded):
            yield from _texts(block.blocks)
