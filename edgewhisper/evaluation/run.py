"""Evaluating a bundle on utterances, batch by batch, resumable after any interruption."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from edgewhisper.evaluation import cluster
from edgewhisper.evaluation.batches import transcribe
from edgewhisper.evaluation.datasets import Utterance, utterances
from edgewhisper.evaluation.options import EvaluationOptions
from edgewhisper.evaluation.wer import Record
from edgewhisper.progress import Progress, ignore
from edgewhisper.recipes import Recipe
from edgewhisper.workspace import Workspace
from edgewhisper_runtime import bundle
from edgewhisper_runtime.bundle import Artefact, AudioContext, atomic
from edgewhisper_runtime.measure import machine

_DECODING = "greedy, no timestamps, repetition broken off"
_BATCH = 8  # what dequantizes its weights at each step does so once for all of a batch


def evaluate(
    workspace: Workspace,
    artefact: Artefact,
    options: EvaluationOptions,
    enough: Callable[[str, list[Record]], bool] = lambda _split, _records: False,
    progress: Progress = ignore,
) -> dict[str, list[Record]]:
    """Transcribe every utterance of every split with a bundle; return the records by split.

    `enough` tells before each batch whether the split's records so far suffice. Each batch is
    written to disk before the next one starts, under a fingerprint of everything that can change
    a text; a second run of the same evaluation computes only missing batches. All engines have the
    same batches in the same order.
    """
    results: dict[str, list[Record]] = {}
    transcribed = transcribe if options.engine == "local" else cluster.transcribe
    size = _batch_size(artefact.manifest, options.audio_context)
    for split, expected, done, path in _stored(workspace, artefact, options):
        batches = _batches(expected, done, size)
        task = f"{artefact.path.name} {split}"
        with closing(transcribed(artefact, options, batches)) as texts:
            progress(task, len(done), len(expected))
            for _ in batches:
                if enough(split, list(done.values())):
                    break
                new = [record for record in next(texts) if record.id not in done]
                _append(path, new)
                done |= {record.id: record for record in new}
                progress(task, len(done), len(expected))
        results[split] = [done[utterance.id] for utterance in expected if utterance.id in done]
    return results


def recorded(
    workspace: Workspace, artefact: Artefact, options: EvaluationOptions
) -> dict[str, list[Record]]:
    """Return the records that earlier evaluations of the same bundle have left."""
    return {
        split: [done[utterance.id] for utterance in expected if utterance.id in done]
        for split, expected, done, _ in _stored(workspace, artefact, options)
    }


def _stored(
    workspace: Workspace, artefact: Artefact, options: EvaluationOptions
) -> Iterator[tuple[str, list[Utterance], dict[str, Record], Path]]:
    """Yield for each split its utterances, the finished records by id, and the records' file."""
    for split in options.dataset.splits:
        expected = utterances(options.dataset, split, options.limit)
        path = _results_path(workspace, artefact.manifest, options, split, expected)
        yield split, expected, dict(_read(path, expected)), path


def _batches(
    expected: list[Utterance], done: dict[str, Record], size: int
) -> list[list[Utterance]]:
    """Return the batches that lack a record, each as a whole, so that batches never differ."""
    batches = [expected[first : first + size] for first in range(0, len(expected), size)]
    return [batch for batch in batches if any(utterance.id not in done for utterance in batch)]


def decoding(manifest: bundle.Manifest, audio_context: AudioContext | None) -> str:
    """Return a description of the decoding that changes whenever texts may change."""
    adaptive = (audio_context or manifest.audio_context) == "adaptive"
    context = ", adaptive audio context" if adaptive else ""
    return f"{_DECODING}, batch {_batch_size(manifest, audio_context)}{context}"


def _batch_size(manifest: bundle.Manifest, audio_context: AudioContext | None) -> int:
    batchable = Recipe.from_record(manifest.recipe, manifest.name).batchable
    full = (audio_context or manifest.audio_context) == "full"
    return _BATCH if batchable and full else 1


def _results_path(
    workspace: Workspace,
    manifest: bundle.Manifest,
    options: EvaluationOptions,
    split: str,
    expected: list[Utterance],
) -> Path:
    """Return the file of this evaluation: its name depends on everything that may change a record.

    Records have times too, so it depends on the number of threads and the processor.
    """
    host = machine.describe()
    identity = {
        "audio": workspace.hashes.digest([utterance.path for utterance in expected]),
        "weights": {name: file.sha256 for name, file in manifest.files.items()},
        "settings": asdict(manifest.settings),
        "libraries": manifest.libraries,
        "device": options.device,
        "threads": options.threads or host.usable_cores,
        "processor": [host.cpu, host.isa],
        "decoding": decoding(manifest, options.audio_context),
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    directory = workspace.evaluations / f"{manifest.name}-{digest[:12]}"
    # Another limit makes other batches.
    limited = "" if options.limit is None else f"-{options.limit}"
    return directory / f"{options.dataset.name.replace(' ', '-')}-{split}{limited}.jsonl"


def _read(path: Path, expected: list[Utterance]) -> Iterator[tuple[str, Record]]:
    """Yield the records of expected utterances; cut off a line that a kill left unfinished."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        with path.open("r+b") as file:
            file.truncate(len(whole))
    references = {utterance.id: utterance.reference for utterance in expected}
    for line in whole.splitlines():
        try:
            record = Record(**json.loads(line))
        except (ValueError, TypeError):
            continue  # a damaged line is an utterance to do again
        if references.get(record.id) == record.reference:
            yield record.id, record


def _append(path: Path, records: list[Record]) -> None:
    lines = (json.dumps(asdict(record), ensure_ascii=False).encode() + b"\n" for record in records)
    with atomic.storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(b"".join(lines))
            file.flush()
            os.fsync(file.fileno())
