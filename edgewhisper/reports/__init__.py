"""Reports: one JSON file with all raw results, and pages for people, rendered from it."""

from edgewhisper.reports.differences import SystemComparison
from edgewhisper.reports.matrix import to_table
from edgewhisper.reports.render import (
    REPORT_FILES,
    read_sweep,
    to_html,
    to_markdown,
    to_text,
    write,
    write_comparison,
    write_sweep,
)
from edgewhisper.reports.results import (
    ContextTrial,
    FailedRow,
    Report,
    SplitReport,
    SweepResult,
    SweepRow,
    Timing,
)

__all__ = [
    "REPORT_FILES",
    "ContextTrial",
    "FailedRow",
    "Report",
    "SplitReport",
    "SweepResult",
    "SweepRow",
    "SystemComparison",
    "Timing",
    "read_sweep",
    "to_html",
    "to_markdown",
    "to_table",
    "to_text",
    "write",
    "write_comparison",
    "write_sweep",
]
