"""Which token may come next: Whisper's rules for text and for timestamps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SECONDS_PER_TIMESTAMP = 0.02
TIMESTAMPS = 1501  # from 0 to 30 s
_LATEST_START = 50  # timestamps: text begins within the first second, as openai-whisper has it


@dataclass(frozen=True)
class TokenRules:
    """Ids that are never allowed, ids that are not allowed first, and the `room` in tokens.

    Tokens that the text has already are less likely by `repetition_penalty`: a logit above 0 is
    divided by it, one below multiplied (Keskar et al. 2019, "CTRL", section 4.1). No phrase of
    `no_repeat_ngram` tokens comes twice (Paulus et al. 2017, section 2.5); 0 allows it. Timestamps
    are not counted.

    With `first_timestamp`, the id of 0 s, text is decoded between timestamps: 1501 ids, 0.02 s
    apart. The id before them asks for text without timestamps; ids after them are text.
    """

    suppress: tuple[int, ...]
    suppress_first: tuple[int, ...]
    end_of_text: int
    room: int
    first_timestamp: int | None = None
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0

    def apply(self, logits: NDArray[np.float32], texts: Sequence[Sequence[int]]) -> None:
        """Set to -inf the logits [rows, vocabulary] of tokens that may not follow a row's text."""
        for row, text in zip(logits, texts, strict=True):
            self._discourage_repetition(row, text)
        logits[:, list(self.suppress)] = -np.inf
        for row, text in zip(logits, texts, strict=True):
            if not text:
                row[list(self.suppress_first)] = -np.inf
            if self.first_timestamp is not None:
                self._apply_timestamps(row, text, self.first_timestamp)

    def _discourage_repetition(self, row: NDArray[np.float32], text: Sequence[int]) -> None:
        if self.repetition_penalty == 1 and not self.no_repeat_ngram:
            return
        first = self.first_timestamp
        words = [token for token in text if first is None or not is_timestamp(token, first)]
        seen = np.unique(np.array(words, dtype=np.int64))
        factor = np.where(row[seen] > 0, 1 / self.repetition_penalty, self.repetition_penalty)
        row[seen] *= factor
        if n := self.no_repeat_ngram:
            last = words[len(words) - n + 1 :]
            for start in range(len(words) - n + 1):
                if words[start : start + n - 1] == last:
                    row[words[start + n - 1]] = -np.inf

    def _apply_timestamps(self, row: NDArray[np.float32], text: Sequence[int], first: int) -> None:
        """Keep timestamps in pairs and in order (Radford et al. 2022, section 4.5).

        The next token is a timestamp where all timestamps together are more likely than any other
        token.
        """
        row[first - 1] = -np.inf
        times = row[first : first + TIMESTAMPS]
        texts = (row[:first], row[first + TIMESTAMPS :])
        if not text:
            _forbid(texts)
            times[_LATEST_START + 1 :] = -np.inf
            return
        ended = is_timestamp(text[-1], first)
        paired = ended and (len(text) == 1 or is_timestamp(text[-2], first))
        last = next((token for token in reversed(text) if is_timestamp(token, first)), first)
        if paired:
            times[:] = -np.inf
        elif ended:  # the end of a segment: the start of the next, or the end of all
            end = row[self.end_of_text]
            _forbid(texts)
            row[self.end_of_text] = end
            times[: last - first] = -np.inf
        else:  # a segment has some length
            times[: last - first + 1] = -np.inf
        best = max(part.max(initial=-np.inf) for part in texts)
        if times.max() > -np.inf and best < _log_sum_exp(times):
            _forbid(texts)


def is_timestamp(token: int, first_timestamp: int) -> bool:
    """Tell whether an id is a timestamp."""
    return first_timestamp <= token < first_timestamp + TIMESTAMPS


def _forbid(logits: Iterable[NDArray[np.float32]]) -> None:
    for part in logits:
        part[:] = -np.inf


def _log_sum_exp(values: NDArray[np.float32]) -> float:
    largest = values.max()
    return float(largest + np.log(np.exp(values - largest).sum()))
