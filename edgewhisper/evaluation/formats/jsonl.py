"""NeMo's manifests: JSON lines with `audio_filepath`, `text` and more for each utterance."""

from __future__ import annotations

from pathlib import Path

from edgewhisper.evaluation.formats import lines
from edgewhisper.evaluation.formats.manifests import Manifest


def _matches(path: Path) -> bool:
    return lines.first(path).startswith(("{", "["))


_MANIFEST = Manifest(_matches, lines.objects, (".json", ".jsonl", ".ndjson"), header=False)
matches, splits, entries = _MANIFEST.matches, _MANIFEST.splits, _MANIFEST.entries
