"""Reports: one JSON file with all raw results, and what people read, rendered from it alone."""

from edgewhisper.reports.render import to_html, to_markdown, to_text, write

__all__ = ["to_html", "to_markdown", "to_text", "write"]
