"""Error rates from stored raw text: normalized at scoring, in words or characters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Annotated

import numpy as np

from edgewhisper.evaluation import normalizing
from edgewhisper.evaluation.normalizing import NormalizerName, Rule
from edgewhisper.evaluation.significance import estimates, widest
from edgewhisper_runtime.bundle import Interval, Metric
from edgewhisper_runtime.bundle.fields import Count, Duration, FreeText, Seconds, between
from edgewhisper_runtime.errors import DataError

_BUCKETS = ((5.0, "under 5 s"), (10.0, "5 to 10 s"), (20.0, "10 to 20 s"), (np.inf, "over 20 s"))

Percent = Annotated[float, between(0, 1e6)]  # of errors, which can be more than the words


@dataclass(frozen=True)
class Record:
    """One evaluated utterance: raw texts, seconds of audio and of computing, what went wrong.

    `language` is that of the reference, as a code of Whisper's; it decides how texts are scored,
    unless `normalizer` does. `detected_language` is the model's, where the evaluation asked for it.
    """

    id: str
    speaker: str
    reference: FreeText
    hypothesis: FreeText
    duration: Duration
    seconds: Seconds
    problem: str | None = None
    language: str = "en"
    normalizer: NormalizerName | None = None
    detected_language: str | None = None

    @property
    def rule(self) -> Rule:
        """How the texts are scored."""
        return normalizing.rule(self.language, self.normalizer)

    @property
    def utterance(self) -> tuple[str, str]:
        """What is the same in every condition that the utterance was decoded in."""
        return self.id, self.reference


@dataclass(frozen=True)
class ErrorCounts:
    """Errors by kind against the number of the reference's words, or characters.

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
    """Corpus error rate in percent with its 95 % interval, errors by kind, and failed outputs.

    `wer` and `words` are of what `metric` counts: words, characters (CER), or both (MER). The
    interval is at each end the wider of those over utterances and over speakers.
    """

    wer: Percent
    interval: Interval
    utterances: Count
    words: Count
    substitutions: Count
    deletions: Count
    insertions: Count
    empty: Count
    looping: Count
    metric: Metric = field(default="WER", kw_only=True)


@dataclass(frozen=True)
class GroupScore:
    """The error rate in percent of some of the utterances."""

    wer: Percent
    utterances: Count
    words: Count


@dataclass(frozen=True)
class LanguageScore(GroupScore):
    """The error rate of a language: its metric and normalizer, and what to know of its texts."""

    metric: Metric
    normalizer: str
    remark: str = ""


@dataclass(frozen=True)
class WerSummary(ErrorSummary):
    """The same with the rate by speaker, length of audio and language, and the real-time factor."""

    by_speaker: dict[str, GroupScore]
    by_duration: dict[str, GroupScore]
    audio_seconds: Seconds
    rtf: Annotated[float, between(0, 1e9)]
    by_language: dict[str, LanguageScore] = field(default_factory=dict)


def count_errors(records: Sequence[Record]) -> list[ErrorCounts]:
    """Align each normalized hypothesis with its reference (jiwer) and count its errors.

    Raises DataError for references without words.
    """
    counts = [align(record.reference, record.hypothesis, record.rule) for record in records]
    empty = [record.id for record, count in zip(records, counts, strict=True) if not count.words]
    if empty:
        raise DataError(f"no words are left in the references of {', '.join(empty)}. Leave it out.")
    return counts


@lru_cache(maxsize=2**17)
def align(reference: str, hypothesis: str, rule: Rule) -> ErrorCounts:
    """Align a normalized text with its reference and count its errors; all 0 without reference."""
    import jiwer

    expected, decoded = normalizing.units(reference, rule), normalizing.units(hypothesis, rule)
    if not expected:
        return ErrorCounts()
    aligned = jiwer.process_words(" ".join(expected), " ".join(decoded))
    return ErrorCounts(aligned.substitutions, aligned.deletions, aligned.insertions, len(expected))


def summarize_errors(records: Sequence[Record]) -> ErrorSummary:
    """Return the corpus rate and what it is made of; raise DataError if nothing can be scored."""
    if not records:
        raise DataError("there is no utterance to score.")
    counts = count_errors(records)
    total = ErrorCounts.total(counts)
    of_each = estimates(
        np.array([count.errors for count in counts]),
        np.array([count.words for count in counts]),
        [record.speaker for record in records],
        [record.utterance for record in records],
    )
    # No error can be below zero, so none went unseen there.
    interval = widest([replace(one, falling=0.0).interval() for one in of_each.values()])
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
        metric=normalizing.metric(record.rule for record in records),
    )


def summarize(records: Sequence[Record]) -> WerSummary:
    """Return the same with rates by group, and the real-time factor; raise DataError likewise."""
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
        by_language=by_language(records),
    )


def by_language(records: Sequence[Record]) -> dict[str, LanguageScore]:
    """Return the error rate of each language and how it was scored."""
    languages = sorted({record.language for record in records})
    groups = _grouped(records, languages, lambda record: record.language)
    scores = {}
    for language, group in groups.items():
        of_language = [record for record in records if record.language == language]
        rule = of_language[0].rule
        remark = normalizing.remark(language, [record.reference for record in of_language])
        scores[language] = LanguageScore(
            **vars(group), metric=rule.metric, normalizer=rule.normalizer, remark=remark
        )
    return scores


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
