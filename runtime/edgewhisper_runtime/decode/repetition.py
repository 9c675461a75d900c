"""Signs that decoding has failed: text that repeats itself."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

MAX_RATIO = 2.4  # Radford et al. 2022, section 4.5
_LONGEST_REPEATED_PHRASE = 8
_FEWEST_REPEATS = 3
_LOOP_TOKENS = 12  # "no, no, no" is speech; a repetition this long is not
_HOPELESS_TOKENS = 64  # a repetition this long is not worth another step
_SUSPECT_TOKENS = 6  # a repetition this long may be a failure


def compression_ratio(text: str) -> float:
    """Return how many times smaller zlib makes the text; 0 for none.

    Repetition compresses well: above `MAX_RATIO` decoding has failed.
    """
    raw = text.encode()
    return len(raw) / len(zlib.compress(raw)) if raw else 0.0


def is_looping(tokens: Sequence[int] | Sequence[str]) -> bool:
    """Tell whether the tokens, or words, end in a phrase that is repeated as failed decoding does.

    A phrase of up to 8 tokens at least three times, 12 tokens or more in all.
    """
    return _repeats(tokens, _LOOP_TOKENS)


def is_hopeless(tokens: Sequence[int]) -> bool:
    """Tell whether the last 64 tokens are one phrase, repeated: decoding would go on for ever."""
    return _repeats(tokens, _HOPELESS_TOKENS)


def is_suspect(tokens: Sequence[int]) -> bool:
    """Tell whether the tokens end in a repetition that may be a failure of decoding.

    A phrase of up to 8 tokens three times, 6 tokens or more in all, or a phrase of 6 or more
    twice. Speech repeats like that too, but seldom.
    """
    if _repeats(tokens, _SUSPECT_TOKENS):
        return True
    longest = len(tokens) // 2
    return any(
        tokens[-length:] == tokens[-2 * length : -length]
        for length in range(_SUSPECT_TOKENS, longest + 1)
    )


def _repeats(tokens: Sequence[int] | Sequence[str], at_least: int) -> bool:
    """Tell whether the tokens end in repetitions of one phrase that are `at_least` tokens long."""
    for length in range(1, _LONGEST_REPEATED_PHRASE + 1):
        repeats = max(_FEWEST_REPEATS, -(-at_least // length))
        tail = list(tokens[-length * repeats :])
        if len(tail) == length * repeats and tail == tail[:length] * repeats:
            return True
    return False
