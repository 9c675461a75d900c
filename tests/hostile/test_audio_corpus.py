"""Hostile audio: each file of a part of the corpus is heard whole, or refused."""

from __future__ import annotations

from pathlib import Path

from hostile import audio_corpus


def test_no_file_is_heard_short(data: Path) -> None:
    speaker = data / "LibriSpeech" / "test-clean" / "1089" / "134686"
    tried = list(audio_corpus.trials(speaker / "1089-134686-0000.flac", every=8))
    assert len(tried) > 400
    assert {"handled", "refused"} <= {trial.outcome for trial in tried}
    assert [trial for trial in tried if trial.bad] == []
