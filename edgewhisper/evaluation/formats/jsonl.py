"""NeMo's manifests: JSON lines with `audio_filepath`, `text` and more for each utterance."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from edgewhisper.evaluation.formats import Problem, lines
from edgewhisper.evaluation.formats.manifests import Manifest, Row


def _matches(path: Path) -> bool:
    return lines.first(path).startswith(("{", "["))


def _rows(path: Path) -> Iterator[Row | Problem]:
    for line in lines.read(path):
        if isinstance(line, Problem):
            yield line
            continue
        number, text = line
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            yield Problem(f"{path}:{number}", f"is not JSON ({error})")
            continue
        if isinstance(values, dict):
            yield number, values
        else:
            yield Problem(f"{path}:{number}", "is not a JSON object: each line must be one")


_MANIFEST = Manifest(_matches, _rows, (".json", ".jsonl", ".ndjson"), header=False)
matches, splits, entries = _MANIFEST.matches, _MANIFEST.splits, _MANIFEST.entries
