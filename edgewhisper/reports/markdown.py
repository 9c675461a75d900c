"""Tables and pages as Markdown: texts and tables; a plot is what it shows in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from edgewhisper.reports.view import Block, Column, Folded, Page, Plot, Table, Text, Versions


def render(page: Page) -> str:
    """Return the page as Markdown."""
    parts = [f"# {page.title}", f"**{page.verdict}**", page.sentence, *page.notes]
    for section in page.sections:
        parts.append(f"## {section.title}")
        parts += [text for block in section.blocks for text in _block(block)]
    return "\n\n".join(parts) + "\n"


def table(columns: Sequence[str | Column], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; a column's head is left-aligned where it is only a name."""
    heads = [column if isinstance(column, str) else column.name for column in columns]
    rules = ["---:" if isinstance(c, Column) and c.numeric else "---" for c in columns]
    lines = (map(cell, heads), rules, *(map(cell, row) for row in rows))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def cell(content: object) -> str:
    """Return the text of one cell, whatever is in it."""
    return " ".join(str(content).replace("|", "\\|").split())


def _block(block: Block) -> Iterator[str]:
    match block:
        case Text():
            yield block.text
        case Plot():
            yield block.description
        case Table():
            yield f"{block.caption}:"
            yield table(block.columns, block.rows)
        case Versions():
            texts = (
                f"- {version.name}: {' '.join(words.text for words in version.words)}"
                for version in block.versions
            )
            yield "\n".join([f"{block.name} ({block.note})", "", *texts])
        case Folded():
            yield block.summary
            for each in block.blocks:
                yield from _block(each)
