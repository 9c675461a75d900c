"""The decoding loop: one for every backend, so that a difference in text is never the loop's."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_COMPRESSION_RATIO = 2.4  # Radford et al. 2022, section 4.5
_LONGEST_REPEATED_PHRASE = 8
_FEWEST_REPEATS = 3
_LOOP_TOKENS = 12  # a repetition this long is no longer speech ("no, no, no" is)
_HOPELESS_TOKENS = 64  # a repetition this long is not worth another step
_SUSPECT_TOKENS = 6  # a repetition this long is worth a second look


class Backend(Protocol):
    """All that the loop knows of an engine. What it encodes and caches stays in the engine."""

    def encode(self, features: NDArray[np.float32]) -> Any:
        """Encode log-mel features float32 [batch, mels, frames], frames even and at most 3000."""

    def start(self, encoded: Any) -> Any:
        """Return an empty cache for decoding what `encode` returned."""

    def step(self, tokens: NDArray[np.int64], cache: Any) -> NDArray[np.float32]:
        """Append tokens int64 [batch, n] to the cache; return float32 logits [batch, vocabulary]
        for the position after the last of them.
        """

    def reorder(self, cache: Any, rows: NDArray[np.int64]) -> Any:
        """Return the cache with its batch rows selected (and repeated) as `rows` int64 [m] says."""


@dataclass(frozen=True)
class TokenRules:
    """What may be decoded: ids never allowed, ids not allowed first, the end, the longest text."""

    suppress: tuple[int, ...]
    suppress_first: tuple[int, ...]
    end_of_text: int
    max_tokens: int  # prompt and end included: the decoder's positions


def is_hopeless(tokens: Sequence[int]) -> bool:
    """Tell whether decoding said nothing but one phrase for 64 tokens: it would go on for ever."""
    return _repeats(tokens, _HOPELESS_TOKENS)


def is_suspect(tokens: Sequence[int]) -> bool:
    """Tell whether the tokens end in a repetition that a second look may turn out to be a failure.

    One phrase of up to 8 tokens three times over, 6 tokens or more in all, or any longer phrase
    twice. Speech does that too, but seldom.
    """
    if _repeats(tokens, _SUSPECT_TOKENS):
        return True
    longest = len(tokens) // 2
    return any(
        tokens[-length:] == tokens[-2 * length : -length]
        for length in range(_SUSPECT_TOKENS, longest + 1)
    )


def greedy(
    backend: Backend,
    encoded: Any,
    prompts: NDArray[np.int64],
    rules: TokenRules,
    failed: Callable[[Sequence[int]], bool] = is_hopeless,
) -> list[list[int]]:
    """Return for each row of prompts [batch, n] the tokens that follow it, the end left out.

    `encoded` is what the backend made of the features of the same batch. A row ends at
    end-of-text, when the decoder has no position left, or when it has `failed`.
    """
    cache = backend.start(encoded)
    texts: list[list[int]] = [[] for _ in prompts]
    active = np.arange(len(prompts))
    tokens = prompts
    for position in range(prompts.shape[1], rules.max_tokens):
        logits = backend.step(tokens, cache)
        logits[:, list(rules.suppress)] = -np.inf
        if position == prompts.shape[1]:
            logits[:, list(rules.suppress_first)] = -np.inf
        best = logits.argmax(axis=1)
        going = best != rules.end_of_text
        for index in np.flatnonzero(going):
            text = texts[active[index]]
            text.append(int(best[index]))
            going[index] = not failed(text)
        if not going.any():
            break
        if not going.all():
            active, best = active[going], best[going]
            cache = backend.reorder(cache, np.flatnonzero(going))
        tokens = best[:, None]
    return texts


def detect_language(
    backend: Backend, encoded: Any, start_of_transcript: int, languages: dict[str, int]
) -> str:
    """Return the code of the most probable language of one encoded window."""
    first = np.array([[start_of_transcript]], dtype=np.int64)
    logits = backend.step(first, backend.start(encoded))[0]
    return max(languages, key=lambda code: float(logits[languages[code]]))


def is_looping(tokens: Sequence[int], text: str) -> bool:
    """Tell whether a transcript of one window repeats itself as a failed decoding does.

    Either its text compresses too well, or it ends in a phrase of up to 8 tokens said at
    least three times over, 12 tokens or more in all.
    """
    raw = text.encode()
    if raw and len(raw) / len(zlib.compress(raw)) > MAX_COMPRESSION_RATIO:
        return True
    return _repeats(tokens, _LOOP_TOKENS)


def _repeats(tokens: Sequence[int], at_least: int) -> bool:
    """Tell whether the tokens end in one phrase, again and again for `at_least` tokens."""
    for length in range(1, _LONGEST_REPEATED_PHRASE + 1):
        repeats = max(_FEWEST_REPEATS, -(-at_least // length))
        tail = list(tokens[-length * repeats :])
        if len(tail) == length * repeats and tail == tail[:length] * repeats:
            return True
    return False
