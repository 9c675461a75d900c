"""Draw the picture of a report that README.md shows.

    python tools/draw_report.py

It is the upper part of the page that `edgewhisper report docs/results/whisper-base/results.json`
writes. Needs Chromium, and writes docs/images/report.png.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from edgewhisper.reports import SweepResult, sweep_page, view

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results" / "whisper-base" / "results.json"
PICTURE = ROOT / "docs" / "images" / "report.png"
WIDTH, HEIGHT = 1000, 740  # pixels


def main() -> None:
    """Draw the upper part of the report's page."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("no Chromium is installed to draw the page with")
    with tempfile.TemporaryDirectory() as directory:
        page = Path(directory) / "report.html"
        page.write_text(view.render(sweep_page.page(SweepResult.read(RESULTS))), encoding="utf-8")
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [f"--user-data-dir={directory}/profile", f"--window-size={WIDTH},{HEIGHT}"]
        command += [f"--screenshot={PICTURE}", page.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    print(PICTURE)


if __name__ == "__main__":
    main()
