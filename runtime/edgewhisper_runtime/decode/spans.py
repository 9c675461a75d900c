"""A window's tokens, split at their timestamps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from edgewhisper_runtime.decode.rules import SECONDS_PER_TIMESTAMP, is_timestamp


@dataclass(frozen=True)
class Span:
    """The text tokens between two timestamps; times in seconds from the start of the window.

    `at` is the position of the first of these among the window's tokens.
    """

    start: float
    end: float
    at: int
    tokens: list[int]


def split_at_timestamps(
    tokens: Sequence[int], first_timestamp: int, seconds: float, whole: bool
) -> tuple[list[Span], float]:
    """Split a window's tokens at pairs of timestamps; return the spans, and where they end.

    The second value is in seconds from the start of the window: the next window begins there.
    If no timestamp, or only one, follows the last span's text, the span may continue after the
    window. It is then left to the next window, unless it is the only span or `whole` is true. Text
    without timestamps is one span.
    """
    marks = [i for i, token in enumerate(tokens) if is_timestamp(token, first_timestamp)]
    cuts = [b for a, b in pairwise(marks) if b == a + 1]
    closed = bool(marks) and marks[-1] == len(tokens) - 1 and marks[-2:-1] != [len(tokens) - 2]
    if closed or whole or not cuts:
        cuts.append(len(tokens))

    def time(token: int) -> float:
        return min((token - first_timestamp) * SECONDS_PER_TIMESTAMP, seconds)

    spans, begin = [], 0
    for cut in cuts:
        piece = tokens[begin:cut]
        text = [token for token in piece if not is_timestamp(token, first_timestamp)]
        times = [time(token) for token in piece if is_timestamp(token, first_timestamp)]
        timed = bool(piece) and is_timestamp(piece[0], first_timestamp)
        start = times[0] if timed else 0.0
        ends = len(times) > 1 or (times and not timed)
        end = times[-1] if ends else seconds
        if text:
            at = begin + int(timed)
            spans.append(Span(start, max(start, end), at, text))
        begin = cut
    if closed or whole or begin == len(tokens):
        return spans, seconds
    return spans, time(tokens[begin - 1]) or seconds
