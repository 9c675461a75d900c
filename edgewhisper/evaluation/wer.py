"""Word error rate from stored raw text: normalized at scoring, by one named normalizer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from edgewhisper.evaluation.significance import (
    bootstrap,
    paired_block_bootstrap,
    paired_bootstrap,
)
from edgewhisper_runtime.bundle import Interval
from edgewhisper_runtime.bundle.fields import Count, Duration, Seconds, between
from edgewhisper_runtime.errors import DataError

_NORMALIZER = "whisper-normalizer"  # a distribution of OpenAI's English normalizer
_BUCKETS = ((5.0, "under 5 s"), (10.0, "5 to 10 s"), (20.0, "10 to 20 s"), (np.inf, "over 20 s"))

Percent = Annotated[float, between(0, 1e6)]  # of word errors, which can be more than the words
Share = Annotated[float, between(0, 1)]


@dataclass(frozen=True)
class Record:
    """One evaluated utterance: raw texts, seconds of audio and of computing, what went wrong.

    `language` is that of the reference, as a code of Whisper's; it decides how texts are scored.
    """

    id: str
    speaker: str
    reference: str
    hypothesis: str
    duration: Duration
    seconds: Seconds
    problem: str | None = None
    language: str = "en"


@dataclass(frozen=True)
class ErrorCounts:
    """Word errors by kind against the number of reference words.

    Counts are added, and the rate is computed of the sum: rates are never averaged.
    """

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    words: int = 0

    def __add__(self, other: object) -> ErrorCounts:
        if not isinstance(other, ErrorCounts):
            return NotImplemented
        return ErrorCounts(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.words + other.words,
        )

    @classmethod
    def total(cls, counts: Iterable[ErrorCounts]) -> ErrorCounts:
        """Return the sum of counts."""
        return sum(counts, start=cls())

    @property
    def errors(self) -> int:
        """All errors."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def wer(self) -> float:
        """Errors in percent of the words."""
        return 100 * self.errors / self.words


@dataclass(frozen=True)
class ErrorSummary:
    """Corpus WER in percent with its 95 % interval, the errors by kind, and failed outputs."""

    wer: Percent
    interval: Interval
    utterances: Count
    words: Count
    substitutions: Count
    deletions: Count
    insertions: Count
    empty: Count
    looping: Count


@dataclass(frozen=True)
class GroupScore:
    """The WER in percent of some of the utterances."""

    wer: Percent
    utterances: Count
    words: Count


@dataclass(frozen=True)
class WerSummary(ErrorSummary):
    """The same with WER by speaker and by length of audio, and the real-time factor."""

    by_speaker: dict[str, GroupScore]
    by_duration: dict[str, GroupScore]
    audio_seconds: Seconds
    rtf: Annotated[float, between(0, 1e9)]


@dataclass(frozen=True)
class Comparison:
    """d = variant WER - baseline WER in percentage points, with its paired 95 % interval.

    The interval is at each end the wider of two: over utterances, and over speakers where they
    are known. Shares are of utterances: with no more errors than the baseline's, and with the
    same text.
    """

    d: float
    interval: Interval
    difference_shown: bool
    share_not_worse: Share
    share_same_text: Share
    utterances: Count


@dataclass(frozen=True)
class Normalizer:
    """The distribution that normalized texts, its version, and a SHA-256 over its rules."""

    name: str
    version: str
    sha256: str


@lru_cache
def _normalize() -> Callable[[str], str]:
    from whisper_normalizer.english import EnglishTextNormalizer

    return EnglishTextNormalizer()


@lru_cache
def normalizer() -> Normalizer:
    """Return which normalizer is installed."""
    distribution = metadata.distribution(_NORMALIZER)
    digest = hashlib.sha256()
    for file in sorted(distribution.files or (), key=str):
        if file.name in {"english.py", "basic.py", "english.json"}:
            digest.update(file.read_binary())
    return Normalizer(_NORMALIZER, distribution.version, digest.hexdigest())


def count_errors(records: Sequence[Record]) -> list[ErrorCounts]:
    """Align each normalized hypothesis with its reference (jiwer) and count its errors.

    Raises DataError for a reference without words.
    """
    counts = []
    for record in records:
        aligned = _align(record.reference, record.hypothesis)
        if not aligned.words:
            raise DataError(f"the reference of {record.id} has no words. Leave it out.")
        counts.append(aligned)
    return counts


@lru_cache(maxsize=2**17)
def _align(reference: str, hypothesis: str) -> ErrorCounts:
    import jiwer

    reference, hypothesis = _normalize()(reference), _normalize()(hypothesis)
    if not reference.strip():
        return ErrorCounts()
    aligned = jiwer.process_words(reference, hypothesis)
    words = len(reference.split())
    return ErrorCounts(aligned.substitutions, aligned.deletions, aligned.insertions, words)


def summarize_errors(records: Sequence[Record]) -> ErrorSummary:
    """Return corpus WER and what it is made of; raise DataError when there is nothing to score."""
    if not records:
        raise DataError("there is no utterance to score.")
    counts = count_errors(records)
    total = ErrorCounts.total(counts)
    errors = np.array([count.errors for count in counts])
    interval = bootstrap(errors, np.array([count.words for count in counts]))
    return ErrorSummary(
        wer=total.wer,
        interval=Interval(max(0.0, interval.low), interval.high),
        utterances=len(records),
        words=total.words,
        substitutions=total.substitutions,
        deletions=total.deletions,
        insertions=total.insertions,
        empty=sum(record.problem == "empty" for record in records),
        looping=sum(record.problem == "looping" for record in records),
    )


def summarize(records: Sequence[Record]) -> WerSummary:
    """Return the same with WER by group, and the real-time factor; raise DataError likewise."""
    errors = summarize_errors(records)
    audio_seconds = sum(record.duration for record in records)
    speakers = sorted({record.speaker for record in records})
    lengths = [name for _, name in _BUCKETS]
    return WerSummary(
        **vars(errors),
        by_speaker=_grouped(records, speakers, lambda record: record.speaker),
        by_duration=_grouped(records, lengths, lambda record: _bucket(record.duration)),
        audio_seconds=audio_seconds,
        rtf=sum(record.seconds for record in records) / audio_seconds,
    )


def compare(
    baseline: Mapping[str, Sequence[Record]], variant: Mapping[str, Sequence[Record]]
) -> Comparison:
    """Compare two evaluations, by split, over all splits together.

    Raises DataError unless both hold the same utterances.
    """
    after, before = (
        {(split, r.id): r for split, records in of_both.items() for r in records}
        for of_both in (variant, baseline)
    )
    if after.keys() != before.keys() or any(
        after[key].reference != before[key].reference for key in after
    ):
        raise DataError("the two evaluations hold different utterances; evaluate both again.")
    keys = sorted(after)
    if not keys:
        raise DataError("there is no utterance to compare.")
    counts_before = count_errors([before[key] for key in keys])
    counts_after = count_errors([after[key] for key in keys])
    differences = np.array(
        [b.errors - a.errors for a, b in zip(counts_before, counts_after, strict=True)]
    )
    words = np.array([count.words for count in counts_before])
    interval = _paired_interval(differences, words, [before[key].speaker for key in keys])
    return Comparison(
        d=float(100 * differences.sum() / words.sum()),
        interval=interval,
        difference_shown=not interval.low <= 0 <= interval.high,
        share_not_worse=float((differences <= 0).mean()),
        share_same_text=float(np.mean([after[k].hypothesis == before[k].hypothesis for k in keys])),
        utterances=len(keys),
    )


def _paired_interval(
    differences: NDArray[np.int64], words: NDArray[np.int64], speakers: Sequence[str]
) -> Interval:
    """Return at each end the wider of the intervals over utterances and over known speakers."""
    over_utterances = paired_bootstrap(differences, words)
    if not all(speakers):
        return over_utterances
    over_speakers = paired_block_bootstrap(differences, words, speakers)
    return Interval(
        min(over_utterances.low, over_speakers.low), max(over_utterances.high, over_speakers.high)
    )


def matching(
    baseline: Mapping[str, Sequence[Record]], variant: Mapping[str, Sequence[Record]]
) -> dict[str, list[Record]]:
    """Return the baseline's records, by split, of the utterances that the variant has."""
    done = {split: {record.id for record in records} for split, records in variant.items()}
    return {
        split: [record for record in records if record.id in done[split]]
        for split, records in baseline.items()
    }


def least_difference(baseline: Sequence[Record], so_far: Sequence[Record]) -> float:
    """Return the least d, in points, that a variant can end with after its records so far.

    As if it made no error in all the rest of the baseline's utterances.
    """
    if not so_far:
        return float("-inf")
    whole = ErrorCounts.total(count_errors(baseline))
    variant = ErrorCounts.total(count_errors(so_far))
    return 100 * (variant.errors - whole.errors) / whole.words


def _grouped(
    records: Sequence[Record], names: Iterable[str], key: Callable[[Record], str]
) -> dict[str, GroupScore]:
    groups: dict[str, list[ErrorCounts]] = {name: [] for name in names}
    for record, count in zip(records, count_errors(records), strict=True):
        groups[key(record)].append(count)
    totals = {name: ErrorCounts.total(group) for name, group in groups.items() if group}
    return {
        name: GroupScore(total.wer, len(groups[name]), total.words)
        for name, total in totals.items()
    }


def _bucket(duration: float) -> str:
    return next((name for limit, name in _BUCKETS if duration < limit), _BUCKETS[-1][1])
