"""Evaluating a bundle on utterances, batch by batch, resumable after any interruption."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from edgewhisper.backend import describe_device
from edgewhisper.evaluation import cluster
from edgewhisper.evaluation.batches import transcribe
from edgewhisper.evaluation.conditions import CLEAN, conditioned
from edgewhisper.evaluation.datasets import Utterance, utterances
from edgewhisper.evaluation.options import EvaluationOptions
from edgewhisper.evaluation.wer import Record
from edgewhisper.progress import Progress, ignore
from edgewhisper.recipes import Recipe
from edgewhisper.workspace import Workspace
from edgewhisper_runtime import bundle
from edgewhisper_runtime.bundle import Artefact, atomic
from edgewhisper_runtime.bundle.fields import FreeText, Seconds
from edgewhisper_runtime.measure import machine

_DECODING = "greedy, no timestamps, repetition broken off"
_BATCH = 8  # what dequantizes its weights at each step does so once for all of a batch

_Keyed = tuple[Utterance, str]  # an utterance and the key of its text


def evaluate(
    workspace: Workspace,
    artefact: Artefact,
    options: EvaluationOptions,
    enough: Callable[[str, list[Record]], bool] = lambda _split, _records: False,
    progress: Progress = ignore,
) -> dict[str, list[Record]]:
    """Transcribe every utterance of every split in every condition; return the records by split.

    What is said of splits here and in results is said of each in each condition.

    `enough` tells before each batch whether the split's records so far suffice. Each batch is
    written to disk before the next one starts, and no utterance is transcribed twice: see `_Store`.
    All engines have the same batches in the same order.
    """
    results: dict[str, list[Record]] = {}
    transcribed = transcribe if options.engine == "local" else cluster.transcribe
    size = _batch_size(artefact.manifest, options)
    store = _Store(workspace, artefact.manifest, options)
    for split, expected in _expected(options):
        keyed = store.keyed(expected)
        batches = _batches([each for each in keyed if each not in store], size)
        task = f"{artefact.path.name} {split}"
        done = store.records(keyed)
        progress(task, len(done), len(keyed))
        with closing(transcribed(artefact, options, [[u for u, _ in b] for b in batches])) as texts:
            for batch in batches:
                if enough(split, done):
                    break
                records = next(texts)
                store.add(batch, records)
                done += records
                progress(task, len(done), len(keyed))
        results[split] = store.records(keyed)
    return results


def recorded(
    workspace: Workspace, artefact: Artefact, options: EvaluationOptions
) -> dict[str, list[Record]]:
    """Return the records that earlier evaluations of the same bundle have left."""
    store = _Store(workspace, artefact.manifest, options)
    return {split: store.records(store.keyed(of_split)) for split, of_split in _expected(options)}


def _expected(options: EvaluationOptions) -> Iterator[tuple[str, list[Utterance]]]:
    """Yield the utterances of each split in each condition, with its name."""
    for split in options.dataset.splits:
        clean = utterances(options.dataset, split, options.limit)
        for condition in options.conditions:
            yield conditioned(split, condition), [each.under(condition) for each in clean]


def _batches(missing: Sequence[_Keyed], size: int) -> list[list[_Keyed]]:
    """Return batches of at most `size` utterances of one language."""
    by_language: dict[str, list[_Keyed]] = {}
    for utterance, key in missing:
        by_language.setdefault(utterance.language, []).append((utterance, key))
    return [
        of_language[first : first + size]
        for of_language in by_language.values()
        for first in range(0, len(of_language), size)
    ]


def decoding(manifest: bundle.Manifest, options: EvaluationOptions) -> str:
    """Return a description of the decoding that changes whenever texts may change."""
    adaptive = (options.audio_context or manifest.audio_context) == "adaptive"
    context = ", adaptive audio context" if adaptive else ""
    language = ", language detected" if options.detect_language else ""
    return f"{_DECODING}, batch {_batch_size(manifest, options)}{context}{language}"


def _batch_size(manifest: bundle.Manifest, options: EvaluationOptions) -> int:
    batchable = Recipe.from_record(manifest.recipe, manifest.name).batchable
    full = (options.audio_context or manifest.audio_context) == "full"
    return _BATCH if batchable and full else 1


@dataclass(frozen=True)
class _Text:
    """What is stored of an utterance: all of its record that is not in the data."""

    hypothesis: FreeText
    seconds: Seconds
    problem: str | None = None
    detected_language: str | None = None


class _Store:
    """The texts that one artefact gave in one way of decoding: a file with a line for each.

    A text is stored under the SHA-256 of its audio, the language that it was decoded in, and the
    condition with the utterance's id, which noise depends on, where that is not clean. So it stays
    valid as long as these and the artefact do, whatever else is in the data, and whatever the
    reference is. Several processes may append at the same time. A line that a kill left unfinished
    is an utterance to do again.
    """

    def __init__(
        self, workspace: Workspace, manifest: bundle.Manifest, options: EvaluationOptions
    ) -> None:
        self._hashes = workspace.hashes
        digest = hashlib.sha256(json.dumps(_identity(manifest, options), sort_keys=True).encode())
        name = f"{manifest.name}-{digest.hexdigest()[:12]}"
        self._path = workspace.evaluations / name / "texts.jsonl"
        self._texts = dict(_read(self._path))

    def keyed(self, expected: Sequence[Utterance]) -> list[_Keyed]:
        """Return each utterance with the key of its text."""
        hashes = self._hashes.digests([utterance.path for utterance in expected])
        return [
            (utterance, f"{sha256} {utterance.language}{_condition(utterance)}")
            for utterance, sha256 in zip(expected, hashes, strict=True)
        ]

    def __contains__(self, keyed: _Keyed) -> bool:
        return keyed[1] in self._texts

    def records(self, keyed: Sequence[_Keyed]) -> list[Record]:
        """Return the records of the utterances that have a text, in order."""
        return [
            Record(
                id=utterance.id,
                speaker=utterance.speaker,
                reference=utterance.reference,
                duration=utterance.duration,
                language=utterance.language,
                normalizer=utterance.normalizer,
                **vars(self._texts[key]),
            )
            for utterance, key in keyed
            if key in self._texts
        ]

    def add(self, batch: Sequence[_Keyed], records: Sequence[Record]) -> None:
        """Store the texts of a batch."""
        new = {
            key: _Text(r.hypothesis, r.seconds, r.problem, r.detected_language)
            for (_, key), r in zip(batch, records, strict=True)
        }
        _append(self._path, new)
        self._texts |= new


def _condition(utterance: Utterance) -> str:
    """Return what identifies an utterance's condition; nothing where it is clean."""
    if utterance.condition == CLEAN:
        return ""
    identity = json.dumps([utterance.condition.identity, utterance.id], sort_keys=True)
    return " " + hashlib.sha256(identity.encode()).hexdigest()


def _identity(manifest: bundle.Manifest, options: EvaluationOptions) -> dict[str, object]:
    """Return all that may change a text besides the utterance.

    Texts have times too, so the number of threads and the processor are in it.
    """
    host = machine.describe()
    return {
        "weights": {name: file.sha256 for name, file in manifest.files.items()},
        "settings": asdict(manifest.settings),
        "libraries": manifest.libraries,
        "device": describe_device(options.device),
        "threads": options.threads or host.usable_cores,
        "processor": [host.cpu, host.isa],
        "decoding": decoding(manifest, options),
    }


def _read(path: Path) -> Iterator[tuple[str, _Text]]:
    """Yield the texts of a file by key."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                content = bundle.decode_json(line)
                yield content.pop("utterance"), bundle.parse(_Text, content)
            except (ValueError, TypeError, LookupError, AttributeError):
                continue  # a damaged line is an utterance to do again


def _append(path: Path, texts: dict[str, _Text]) -> None:
    lines = [
        json.dumps({"utterance": key} | asdict(text), ensure_ascii=False).encode() + b"\n"
        for key, text in texts.items()
    ]
    with atomic.storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    lines.insert(0, b"\n")
            file.write(b"".join(lines))
            file.flush()
            os.fsync(file.fileno())
