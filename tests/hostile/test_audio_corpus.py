"""Hostile audio: each file of a part of the corpus is heard whole, or refused."""

from __future__ import annotations

from pathlib import Path

from hostile.audio_corpus import cases, judge


def test_no_file_is_heard_short(data: Path) -> None:
    speaker = data / "LibriSpeech" / "test-clean" / "1089" / "134686"
    part = list(cases(speaker / "1089-134686-0000.flac", cuts=1, flips=1))[::4]
    outcomes = {f"{case.kind}: {case.name}": judge(case) for case in part}
    assert len(outcomes) > 400
    assert {"handled", "refused"} <= set(outcomes.values())
    assert {name: outcome for name, outcome in outcomes.items() if "bad" in outcome} == {}
