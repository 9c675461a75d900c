"""NeMo's manifests: JSON lines with `audio_filepath`, `text` and more for each utterance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgewhisper.evaluation.formats import lines
from edgewhisper.evaluation.formats.manifests import Manifest


def _fits(path: Path, columns: Mapping[str, str]) -> bool:  # noqa: ARG001 # each line has its own
    return lines.first(path).startswith(("{", "["))


_MANIFEST = Manifest(_fits, lines.objects, (".json", ".jsonl", ".ndjson"), header=False)
matches, splits, entries = _MANIFEST.matches, _MANIFEST.splits, _MANIFEST.entries
