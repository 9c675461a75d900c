"""The texts that a variant changed, with the changed words marked in place."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby

from edgewhisper.evaluation import wer
from edgewhisper.reports.results import Report
from edgewhisper.reports.view import Version, Versions, Words


@dataclass(frozen=True)
class Change:
    """An utterance whose words changed, and how many more errors the variant's text has."""

    split: str
    baseline: wer.Record
    variant: wer.Record
    more_errors: int

    @property
    def versions(self) -> Versions:
        """The texts below each other, what changed marked in the baseline's and the variant's."""
        before, after = marked(self.baseline.hypothesis, self.variant.hypothesis)
        reference = (Words(self.baseline.reference.lower()),)
        texts = (("reference", reference), ("baseline", before), ("variant", after))
        return Versions(
            self.baseline.id, f"{self.split}: {self._note}",
            tuple(Version(name, words or (Words("(empty)"),)) for name, words in texts),
        )  # fmt: skip

    @property
    def _note(self) -> str:
        if self.more_errors == 0:
            return "as many errors"
        errors = "error" if abs(self.more_errors) == 1 else "errors"
        return f"{abs(self.more_errors)} {errors} {'more' if self.more_errors > 0 else 'fewer'}"


def changes(report: Report) -> tuple[list[Change], int]:
    """Return the utterances whose words changed, the worst first.

    And the number of those where only case or punctuation did.
    """
    changed: list[Change] = []
    only_punctuation = 0
    for split, records in report.records["baseline"].items():
        others = report.records["variant"][split]
        counts = zip(wer.count_errors(records), wer.count_errors(others), strict=True)
        for before, after, (old, new) in zip(records, others, counts, strict=True):
            if _words(before.hypothesis) != _words(after.hypothesis):
                changed.append(Change(split, before, after, new.errors - old.errors))
            elif before.hypothesis != after.hypothesis:
                only_punctuation += 1
    return sorted(changed, key=lambda change: -change.more_errors), only_punctuation


def marked(before: str, after: str) -> tuple[tuple[Words, ...], tuple[Words, ...]]:
    """Return two texts with the words marked that the other lacks, whatever their case."""
    matcher = SequenceMatcher(None, _words(before), _words(after), autojunk=False)
    kept = matcher.get_matching_blocks()
    return (
        _joined(before.split(), {block.a + n for block in kept for n in range(block.size)}),
        _joined(after.split(), {block.b + n for block in kept for n in range(block.size)}),
    )


def _joined(words: Sequence[str], kept: set[int]) -> tuple[Words, ...]:
    numbered = groupby(enumerate(words), lambda item: item[0] not in kept)
    return tuple(Words(" ".join(word for _, word in group), changed) for changed, group in numbered)


def _words(text: str) -> list[str]:
    return [word.strip(string.punctuation).lower() for word in text.split()]
