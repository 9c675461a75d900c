"""Evaluating a bundle on utterances, one record at a time, resumable after any interruption."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from edgewhisper.evaluation.librispeech import Dataset, Utterance, utterances
from edgewhisper.evaluation.wer import Record
from edgewhisper.home import home
from edgewhisper_runtime import atomic, bundle
from edgewhisper_runtime.loading import load

LANGUAGE = "en"
_DECODING = (
    "greedy, batch 1, no timestamps, repetition broken off"  # changes whenever texts may change
)


@dataclass(frozen=True)
class Options:
    """What to evaluate on: the data, at most how many utterances of a split, and where."""

    dataset: Dataset
    limit: int | None = None
    device: str = "cpu"
    threads: int | None = None


def evaluate(
    directory: Path,
    options: Options,
    enough: Callable[[str, list[Record]], bool] = lambda _split, _records: False,
) -> dict[str, list[Record]]:
    """Transcribe every utterance of every split with a bundle; return the records by split.

    `enough` is asked before each utterance whether the split's records so far will do. Each
    record is on disk before the next utterance begins, under a fingerprint of what can
    change a text; a second run of the same evaluation does only what is missing.
    """
    manifest = bundle.verify(directory)
    results: dict[str, list[Record]] = {}
    transcriber = None
    for split in options.dataset.splits:
        wanted = utterances(options.dataset, split, options.limit)
        path = _results_path(manifest, options, split)
        done = dict(_read(path, wanted))
        missing = [utterance for utterance in wanted if utterance.id not in done]
        if missing and transcriber is None:
            transcriber = load(directory, options.device, options.threads)
        if missing and transcriber is not None:
            for utterance in _progress(missing, f"{manifest.name} {split}", len(done), len(wanted)):
                if enough(split, list(done.values())):
                    break
                start = time.perf_counter()
                transcript = transcriber.transcribe(utterance.path, language=LANGUAGE)
                record = Record(
                    id=utterance.id,
                    speaker=utterance.speaker,
                    reference=utterance.reference,
                    hypothesis=transcript.text,
                    duration=utterance.duration,
                    seconds=time.perf_counter() - start,
                    problem=transcript.problem,
                )
                _append(path, record)
                done[record.id] = record
        results[split] = [done[utterance.id] for utterance in wanted if utterance.id in done]
    return results


def _results_path(manifest: bundle.Manifest, options: Options, split: str) -> Path:
    """Return the file of this evaluation: its name changes with all that may change a text."""
    identity = {
        "weights": {name: file.sha256 for name, file in manifest.files.items()},
        "settings": asdict(manifest.settings),
        "libraries": manifest.libraries,
        "device": options.device,
        "decoding": _DECODING,
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    directory = home() / "evaluations" / f"{manifest.name}-{digest[:12]}"
    return directory / f"{options.dataset.name.replace(' ', '-')}-{split}.jsonl"


def _read(path: Path, wanted: list[Utterance]) -> Iterator[tuple[str, Record]]:
    """Yield the whole records of wanted utterances; cut off a line that a kill left unfinished."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        with path.open("r+b") as file:
            file.truncate(len(whole))
    references = {utterance.id: utterance.reference for utterance in wanted}
    for line in whole.splitlines():
        try:
            record = Record(**json.loads(line))
        except (ValueError, TypeError):
            continue  # a damaged line is an utterance to do again
        if references.get(record.id) == record.reference:
            yield record.id, record


def _append(path: Path, record: Record) -> None:
    with atomic.storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(json.dumps(asdict(record), ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _progress(missing: list[Utterance], name: str, done: int, total: int) -> Iterator[Utterance]:
    from tqdm import tqdm

    yield from tqdm(missing, desc=name, initial=done, total=total, unit="utt", mininterval=1.0)
