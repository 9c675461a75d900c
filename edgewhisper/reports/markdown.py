"""A page as Markdown: its texts and tables; a plot is what it shows in words."""

from __future__ import annotations

from collections.abc import Iterator

from edgewhisper.reports.view import Block, Folded, Page, Plot, Table, Text, Versions


def render(page: Page) -> str:
    """Return the page as Markdown."""
    parts = [f"# {page.title}", f"**{page.verdict}**", page.sentence, *page.notes]
    for section in page.sections:
        parts.append(f"## {section.title}")
        parts += [text for block in section.blocks for text in _block(block)]
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> Iterator[str]:
    match block:
        case Text():
            yield block.text
        case Plot():
            yield block.description
        case Table():
            yield f"{block.caption}:"
            yield _table(block)
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


def _table(table: Table) -> str:
    heads = [column.name for column in table.columns]
    rules = ["---:" if column.numeric else "---" for column in table.columns]
    escaped = ([cell.replace("|", "\\|") for cell in row] for row in table.rows)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rules, *escaped))
