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

    With `first_timestamp`, the id of 0 s, text is decoded between timestamps: 1501 ids, 0.02 s
    apart. The id before them asks for text without timestamps; ids after them are text.
    """

    suppress: tuple[int, ...]
    suppress_first: tuple[int, ...]
    end_of_text: int
    room: int
    first_timestamp: int | None = None

    def apply(self, logits: NDArray[np.float32], texts: Sequence[Sequence[int]]) -> None:
        """Set to -inf the logits [rows, vocabulary] of tokens that may not follow a row's text."""
        logits[:, list(self.suppress)] = -np.inf
        for row, text in zip(logits, texts, strict=True):
            if not text:
                row[list(self.suppress_first)] = -np.inf
            if self.first_timestamp is not None:
                self._apply_timestamps(row, text, self.first_timestamp)

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
