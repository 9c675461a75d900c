"""Draw the picture of a report that README.md shows.

    python tools/draw_report.py

Takes the report.json in docs/results/report, which `edgewhisper evaluate --output` wrote, and needs
Chromium. Writes docs/images/report.png.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from edgewhisper import reports
from edgewhisper.reports import Report

ROOT = Path(__file__).parent.parent
REPORT = ROOT / "docs" / "results" / "report" / "report.json"
PICTURE = ROOT / "docs" / "images" / "report.png"
WIDTH, HEIGHT = 1000, 1000  # pixels


def main() -> None:
    """Draw the upper part of the report's page."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("no Chromium is installed to draw the page with")
    with tempfile.TemporaryDirectory() as directory:
        page = Path(directory) / "report.html"
        page.write_text(reports.to_html(Report.read(REPORT)), encoding="utf-8")
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [f"--user-data-dir={directory}/profile", f"--window-size={WIDTH},{HEIGHT}"]
        command += [f"--screenshot={PICTURE}", page.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    print(PICTURE)


if __name__ == "__main__":
    main()
