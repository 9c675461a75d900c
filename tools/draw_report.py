"""Draw the pictures of reports that the documentation shows.

    python tools/draw_report.py

They are the upper parts of the pages that `edgewhisper report` writes of results in docs/results.
Needs Chromium, and writes to docs/images.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from edgewhisper.reports import SweepResult, profile_page, sweep_page, view
from edgewhisper.reports.view import Page
from edgewhisper_runtime.bundle import parse
from edgewhisper_runtime.measure.figures import ProfileReport

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
IMAGES = ROOT / "docs" / "images"
WIDTH, HEIGHT = 1000, 740  # pixels


def draw(browser: str, page: Page, picture: Path) -> None:
    """Draw the upper part of a page."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "report.html"
        file.write_text(view.render(page), encoding="utf-8")
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [f"--user-data-dir={directory}/profile", f"--window-size={WIDTH},{HEIGHT}"]
        command += [f"--screenshot={picture}", file.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    print(picture)


def main() -> None:
    """Draw each picture."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("no Chromium is installed to draw the pages with")
    sweep = SweepResult.read(RESULTS / "whisper-base" / "results.json")
    profile = parse(ProfileReport, json.loads((RESULTS / "trial" / "pi.json").read_text()))
    draw(browser, sweep_page.page(sweep), IMAGES / "report.png")
    draw(browser, profile_page.page(profile), IMAGES / "device.png")


if __name__ == "__main__":
    main()
