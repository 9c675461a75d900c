"""edgewhisper data list and check."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import Run


@pytest.fixture
def own(tmp_path: Path, smoke_clip: Path) -> Path:
    """A workspace with a data card."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "clips.csv").write_text(f"path,text\n{smoke_clip},There is bread.\n")
    (tmp_path / "data" / "factory.toml").write_text('path = "clips.csv"\nlanguage = "English"\n')
    return tmp_path


def test_cards_are_listed(run: Run, own: Path, tmp_path: Path, data: Path) -> None:
    listed = run("data", "list", "--json", env_home=own)
    (card,) = json.loads(listed.stdout)
    assert (card["name"], card["language"]) == ("factory", "en")
    assert "factory" in run("data", "list", env_home=own).stdout
    assert "no data is here" in run("data", "list", env_home=tmp_path / "empty").stdout


def test_data_is_checked_by_name(run: Run, own: Path) -> None:
    checked = run("data", "check", "factory", "--json", env_home=own)
    assert checked.returncode == 0, checked.stderr
    content = json.loads(checked.stdout)
    assert (content["name"], content["format"], content["problems"]) == ("factory", "table", [])
    assert content["splits"]["clips"]["utterances"] == 1
    assert content["splits"]["clips"]["languages"] == ["en"]


def test_problems_are_shown_with_their_lines(run: Run, own: Path) -> None:
    path = own / "data" / "clips.csv"
    path.write_text(path.read_text() + "absent.wav,Hello.\n")
    checked = run("data", "check", "factory", env_home=own)
    assert checked.returncode == 8
    assert f"{path}:3: " in checked.stdout
    assert "1 problem, shown above" in checked.stderr
    assert run("data", "check", "nothing", env_home=own).returncode == 8
