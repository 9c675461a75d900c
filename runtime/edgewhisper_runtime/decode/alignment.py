"""When each word was spoken: tokens aligned with the decoder's attention to the audio.

The method is openai-whisper's (whisper/timing.py): some heads of the cross-attention look at what
is spoken, so the cheapest monotonic path through their weights gives every token its time. In
addition, a pause belongs to the punctuation, so that words end before it, and a word after a pause
begins where the attention to it begins; both were measured on utterances joined with silence.

The path assigns every position to some token, even in pauses and music, so the length of a word is
bounded. Beside punctuation and at the window's start the bound is twice the median length of the
window's words, as in openai-whisper and faster-whisper (`add_word_timestamps`). Elsewhere it is
four times the median, a bound that they do not have. The median counts as 0.7 s at most. A longer
word is reduced to the part that is attended to most. No word reaches into a pause that the samples
show: of one that does the part beside it is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgewhisper_runtime.errors import BundleError
from edgewhisper_runtime.text.splitting import split
from edgewhisper_runtime.transcript import Word

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgewhisper_runtime.text.tokens import Tokenizer

SECONDS_PER_POSITION = 0.02
_FILTER_WIDTH = 7
_ONSET = 0.2  # share of a word's attention that lies before it, in the pause
_LONGEST_MEDIAN = 0.7 / SECONDS_PER_POSITION  # positions
_AT_PAUSE, _ELSEWHERE = 2, 4  # medians
_TINIEST = np.float32(1e-12)


def check(heads: Sequence[tuple[int, int]], layers: int, heads_per_layer: int) -> None:
    """Raise BundleError for (layer, head) pairs that a decoder of these sizes does not have."""
    if not heads or not all(0 <= a < layers and 0 <= b < heads_per_layer for a, b in heads):
        raise BundleError(
            f"the manifest's alignment heads {list(heads)} are not of this decoder, which has "
            f"{layers} layers of {heads_per_layer} heads. Build again."
        )


def attend(
    queries: Mapping[int, NDArray[np.float32]],
    keys: Mapping[int, NDArray[np.float32]],
    heads: Sequence[tuple[int, int]],
) -> NDArray[np.float32]:
    """Return attention weights [heads, n, positions] of (layer, head) pairs.

    By layer: `queries` [n, width] and `keys` [heads of a layer, positions, width of a head].
    """
    width = keys[heads[0][0]].shape[2]
    scores = np.stack(
        [
            queries[layer][:, head * width : (head + 1) * width] @ keys[layer][head].T
            for layer, head in heads
        ]
    )
    scores /= np.sqrt(np.float32(width))
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores


def words(
    tokenizer: Tokenizer,
    tokens: Sequence[int],
    probabilities: Sequence[float],
    weights: NDArray[np.float32],
    seconds: float,
    language: str,
    pauses: Sequence[tuple[float, float]] = (),
) -> list[Word]:
    """Return the words of a window's text; times in seconds from its start, monotonic, inside it.

    `weights` [heads, n, positions] are those of the prompt (two tokens or more) and of `tokens`
    after it; the row of a token aligns the next token, which it predicts. `probabilities` are those
    of `tokens`; `seconds` is the length of the window's sound, `pauses` are the starts and ends of
    its silence. The words joined are the text.
    """
    positions = min(max(1, round(seconds / SECONDS_PER_POSITION)), weights.shape[2])
    inside = weights[:, :, :positions]
    inside = inside / np.maximum(inside.sum(axis=2, keepdims=True), _TINIEST)
    scores = inside - inside.mean(axis=1, keepdims=True)
    scores /= np.maximum(inside.std(axis=1, keepdims=True), _TINIEST)
    # One more row of the prompt stands for the silence before the first word.
    rows = len(tokens) + 2
    begins = first_columns(-_smooth(scores.mean(axis=0)[-rows:]))[1:]
    attention = inside.mean(axis=0)[1 - rows :]
    spans = split(tokenizer, tokens, language)
    bounds, at_pause = [], []
    pause = True
    for word in spans:
        first, after = word.spoken
        start, end = begins[first], begins[after]
        pause = pause or first > word.start
        if pause:
            start += _onset(attention[first, start : begins[first + 1]])
        own = attention[first:after].sum(axis=0)
        bounds.append(_between(pauses, own, int(start), int(end)))
        at_pause.append(pause or after < word.end)
        pause = after < word.end
    lengths = [end - start for start, end in bounds if end > start]
    median = min(float(np.median(lengths)), _LONGEST_MEDIAN) if lengths else 0.0
    timed = []
    for word, (start, end), beside in zip(spans, bounds, at_pause, strict=True):
        first, after = word.spoken
        length = min(end - start, round(median * (_AT_PAUSE if beside else _ELSEWHERE)))
        begin = start + _densest(attention[first:after, start:end].sum(axis=0), length)
        timed.append(
            Word(
                start=min(_seconds(begin), seconds),
                end=min(_seconds(begin + length), seconds),
                text=word.text,
                probability=float(np.mean(probabilities[first:after])),
            )
        )
    return timed


def _between(
    pauses: Sequence[tuple[float, float]], attention: NDArray[np.float32], start: int, end: int
) -> tuple[int, int]:
    """Return the part of a word between pauses that attention [n] is largest in.

    A word that lies in a pause altogether has no length, and stands where the pause begins.
    """
    parts, begin, earliest = [], start, start
    for pause in pauses:
        quiet, loud = (round(time / SECONDS_PER_POSITION) for time in pause)
        if quiet < end and loud > start:
            parts.append((begin, max(begin, quiet)))
            begin, earliest = min(loud, end), min(earliest, quiet)
    parts.append((begin, end))
    if all(first == last for first, last in parts):
        return earliest, earliest
    return max(parts, key=lambda part: float(attention[slice(*part)].sum()))


def _seconds(position: int) -> float:
    return round(position * SECONDS_PER_POSITION, 2)


def _densest(attention: NDArray[np.float32], length: int) -> int:
    """Return the start of the `length` positions with the largest sum of attention [n]."""
    if len(attention) <= length:
        return 0
    sums = np.concatenate([[0], np.cumsum(attention, dtype=np.float64)])
    return int((sums[length:] - sums[:-length]).argmax())


def _smooth(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the running median of rows [n, positions]."""
    padded = np.pad(rows, ((0, 0), (_FILTER_WIDTH // 2,) * 2), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, _FILTER_WIDTH, axis=1)
    # the same as np.median, in half the time
    smooth: NDArray[np.float32] = np.sort(windows, axis=2)[:, :, _FILTER_WIDTH // 2]
    return smooth


def _onset(attention: NDArray[np.float32]) -> int:
    """Return the position where attention [n] reaches the share `_ONSET` of its sum."""
    reached = np.cumsum(attention)
    return int(np.searchsorted(reached, _ONSET * reached[-1])) if len(reached) else 0


def first_columns(cost: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the column [rows] where the cheapest path through cost [rows, columns] enters a row.

    Dynamic time warping: the path goes from the first cell to the last one by steps to the right,
    down, or both. A row is computed at once. S is the running sum of its costs, and D[k] the cost
    of the path up to column k. To enter at k and go on to j costs D[k] - S[k - 1] + S[j], so a
    running minimum over k gives the best column to enter.
    """
    rows, columns = cost.shape
    index = np.arange(columns)
    entered = np.zeros((rows, columns), dtype=np.int64)
    slanted = np.zeros((rows, columns), dtype=bool)
    total = np.cumsum(cost[0], dtype=np.float64)
    for row in range(1, rows):
        sums = np.cumsum(cost[row], dtype=np.float64)
        diagonal = np.concatenate([[np.inf], total[:-1]])
        slanted[row] = diagonal <= total
        price = np.minimum(diagonal, total) - sums + cost[row]
        best = np.minimum.accumulate(price)
        entered[row] = np.maximum.accumulate(np.where(price == best, index, 0))
        total = best + sums
    entries = np.zeros(rows, dtype=np.int64)
    column = columns - 1
    for row in reversed(range(1, rows)):
        entries[row] = entered[row, column]
        column = entries[row] - slanted[row, entries[row]]
    return entries
