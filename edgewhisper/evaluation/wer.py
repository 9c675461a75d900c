"""Word error rate from stored raw text: normalized at scoring, by one named normalizer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import metadata
from typing import Any

import numpy as np

from edgewhisper.evaluation.significance import Interval, bootstrap, paired_bootstrap
from edgewhisper_runtime.errors import DataError

_NORMALIZER = "whisper-normalizer"  # a distribution of OpenAI's English normalizer
_BUCKETS = ((5.0, "under 5 s"), (10.0, "5 to 10 s"), (20.0, "10 to 20 s"), (np.inf, "over 20 s"))


@dataclass(frozen=True)
class Record:
    """One evaluated utterance: raw texts, seconds of audio and of computing, what went wrong."""

    id: str
    speaker: str
    reference: str
    hypothesis: str
    duration: float
    seconds: float
    problem: str | None = None


@dataclass(frozen=True)
class Counts:
    """Word errors by kind against the number of reference words."""

    substitutions: int
    deletions: int
    insertions: int
    words: int

    @property
    def errors(self) -> int:
        """All errors."""
        return self.substitutions + self.deletions + self.insertions


@lru_cache
def _normalize() -> Callable[[str], str]:
    from whisper_normalizer.english import EnglishTextNormalizer

    return EnglishTextNormalizer()


@lru_cache
def normalizer() -> dict[str, str]:
    """Return the normalizer's name, version and a SHA-256 over its rules."""
    distribution = metadata.distribution(_NORMALIZER)
    digest = hashlib.sha256()
    for file in sorted(distribution.files or (), key=str):
        if file.name in {"english.py", "basic.py", "english.json"}:
            digest.update(file.read_binary())
    return {"name": _NORMALIZER, "version": distribution.version, "sha256": digest.hexdigest()}


def count_errors(records: Sequence[Record]) -> list[Counts]:
    """Align each normalized hypothesis with its reference (jiwer) and count its errors.

    Raises DataError for a reference without words.
    """
    counts = []
    for record in records:
        found = _align(record.reference, record.hypothesis)
        if not found.words:
            raise DataError(f"the reference of {record.id} has no words. Leave it out.")
        counts.append(found)
    return counts


@lru_cache(maxsize=2**17)
def _align(reference: str, hypothesis: str) -> Counts:
    import jiwer

    reference, hypothesis = _normalize()(reference), _normalize()(hypothesis)
    if not reference.strip():
        return Counts(0, 0, 0, 0)
    found = jiwer.process_words(reference, hypothesis)
    words = len(reference.split())
    return Counts(found.substitutions, found.deletions, found.insertions, words)


def summarize(records: Sequence[Record]) -> dict[str, Any]:
    """Return corpus WER in percent with its 95 % interval, and everything it is made of.

    Raises DataError when there is nothing to score.
    """
    if not records:
        raise DataError("there is no utterance to score.")
    counts = count_errors(records)
    errors = np.array([count.errors for count in counts])
    words = np.array([count.words for count in counts])
    audio_seconds = sum(record.duration for record in records)
    interval = bootstrap(errors, words)
    speakers = sorted({record.speaker for record in records})
    lengths = [name for _, name in _BUCKETS]
    return {
        "wer": _percent(counts),
        "interval": asdict(Interval(max(0.0, interval.low), interval.high)),
        "utterances": len(records),
        "words": int(words.sum()),
        "substitutions": sum(count.substitutions for count in counts),
        "deletions": sum(count.deletions for count in counts),
        "insertions": sum(count.insertions for count in counts),
        "empty": sum(record.problem == "empty" for record in records),
        "looping": sum(record.problem == "looping" for record in records),
        "by_speaker": _grouped(records, counts, speakers, lambda record: record.speaker),
        "by_duration": _grouped(records, counts, lengths, lambda record: _bucket(record.duration)),
        "audio_seconds": audio_seconds,
        "rtf": sum(record.seconds for record in records) / audio_seconds,
    }


def compare(baseline: Sequence[Record], variant: Sequence[Record]) -> dict[str, Any]:
    """Return d = variant WER - baseline WER in points, with its paired 95 % interval.

    Raises DataError unless both hold the same utterances.
    """
    ours = {record.id: record for record in variant}
    theirs = {record.id: record for record in baseline}
    if ours.keys() != theirs.keys() or any(
        ours[name].reference != theirs[name].reference for name in ours
    ):
        raise DataError("the two evaluations hold different utterances; evaluate both again.")
    names = sorted(ours)
    counts_a = count_errors([theirs[name] for name in names])
    counts_b = count_errors([ours[name] for name in names])
    errors_a, errors_b = (np.array([c.errors for c in counts]) for counts in (counts_a, counts_b))
    words = np.array([count.words for count in counts_a])
    interval: Interval = paired_bootstrap(errors_b - errors_a, words)
    return {
        "d": float(100 * (errors_b - errors_a).sum() / words.sum()),
        "interval": asdict(interval),
        "difference_shown": not interval.low <= 0 <= interval.high,
        "share_not_worse": float((errors_b <= errors_a).mean()),
        "share_same_text": float(
            np.mean([ours[name].hypothesis == theirs[name].hypothesis for name in names])
        ),
        "utterances": len(names),
    }


def least_difference(baseline: Sequence[Record], so_far: Sequence[Record]) -> float:
    """Return the least d, in points, that a variant can end with after its records so far.

    As if it made no error in all the rest of the baseline's utterances.
    """
    if not so_far:
        return float("-inf")
    theirs = count_errors(baseline)
    ours = sum(count.errors for count in count_errors(so_far))
    words = sum(count.words for count in theirs)
    return 100 * (ours - sum(count.errors for count in theirs)) / words


def _percent(counts: Sequence[Counts]) -> float:
    return 100 * sum(c.errors for c in counts) / sum(c.words for c in counts)


def _grouped(
    records: Sequence[Record],
    counts: Sequence[Counts],
    names: Iterable[str],
    key: Callable[[Record], str],
) -> dict[str, dict[str, float]]:
    groups: dict[str, list[Counts]] = {name: [] for name in names}
    for record, count in zip(records, counts, strict=True):
        groups[key(record)].append(count)
    return {
        name: {
            "wer": _percent(group),
            "utterances": len(group),
            "words": sum(c.words for c in group),
        }
        for name, group in groups.items()
        if group
    }


def _bucket(duration: float) -> str:
    return next((name for limit, name in _BUCKETS if duration < limit), _BUCKETS[-1][1])
