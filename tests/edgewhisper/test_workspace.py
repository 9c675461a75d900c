"""What the workspace keeps is not overwritten, and its pointers hold when it moves."""

from __future__ import annotations

import shutil
from pathlib import Path

from edgewhisper.workspace import Workspace


def test_every_report_has_a_directory_of_its_own(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    directories = [workspace.new_report("tiny-int8") for _ in range(3)]
    assert len(set(directories)) == 3
    latest = tmp_path / "reports" / "tiny-int8" / "latest"
    assert latest.readlink() == Path(directories[-1].name)
    (directories[-1] / "report.json").write_text("{}")
    assert (latest / "report.json").is_file()
    assert sorted(p.name for p in latest.parent.iterdir()) == sorted(
        ["latest", *(directory.name for directory in directories)]
    )


def test_the_latest_bundle_never_leads_into_another_home(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "old")
    (workspace.bundles / "tiny").mkdir(parents=True)
    workspace.remember_bundle(workspace.bundles / "tiny")
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    assert Workspace(tmp_path / "new").latest_bundle() == tmp_path / "new" / "bundles" / "tiny"
    shutil.rmtree(tmp_path / "new" / "bundles")
    assert Workspace(tmp_path / "new").latest_bundle() is None
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    workspace.remember_bundle(elsewhere)
    assert workspace.latest_bundle() == elsewhere
