"""NeMo's manifests: JSON lines with `audio_filepath`, `text` and more for each utterance."""

from __future__ import annotations

from pathlib import Path

from edgewhisper.evaluation.formats import lines
from edgewhisper.evaluation.formats.manifests import Manifest
from edgewhisper_runtime.bundle import decode_json
from edgewhisper_runtime.errors import DataError


def _first(path: Path) -> tuple[str, ...]:
    try:
        content = decode_json(lines.first(path))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise DataError("its first line is not a JSON object.")
    return tuple(content)


_MANIFEST = Manifest(_first, lines.objects, (".json", ".jsonl", ".ndjson"), header=False)
SETTINGS = _MANIFEST.SETTINGS
matches, splits, entries = _MANIFEST.matches, _MANIFEST.splits, _MANIFEST.entries
