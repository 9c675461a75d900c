"""Text that nobody spoke: unlikely words, with silence on both sides."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgewhisper_runtime.transcript import Word

# openai-whisper's figures, for `hallucination_silence_threshold`.
_UNLIKELY = 0.15  # probability of a word
_SHORT, _LONG = 0.133, 2.0  # seconds
_PER_SECOND_TOO_SHORT = 15
_ENOUGH = 3.0
_FIRST_WORDS = 8


def hallucinated(groups: Sequence[Sequence[Word]], length: float, silence: float) -> list[bool]:
    """Tell of each segment of a window, by its words, whether nobody spoke it.

    Times are seconds from the start of the window, which is `length` seconds long. Nobody spoke a
    segment whose words are anomalous (openai-whisper's rule, see `_is_anomalous`) and which has
    more than `silence` seconds without a word before and after it.
    """
    verdicts: list[bool] = []
    spoken = 0.0  # the end of the last word that is kept
    for number, words in enumerate(groups):
        following = (group[0].start for group in groups[number + 1 :] if group)
        before = words[0].start - spoken if words else 0.0
        after = next(following, length) - words[-1].end if words else 0.0
        verdicts.append(min(before, after) > silence and _is_anomalous(words))
        if words and not verdicts[-1]:
            spoken = words[-1].end
    return verdicts


def _is_anomalous(words: Sequence[Word]) -> bool:
    """Tell whether the first words of a segment are improbable, or of a length that none has."""
    spoken = [word for word in words if not _is_punctuation(word.text)][:_FIRST_WORDS]
    score = sum(map(_anomaly, spoken))
    return bool(spoken) and (score >= _ENOUGH or score + 0.01 >= len(spoken))


def _anomaly(word: Word) -> float:
    seconds = word.end - word.start
    return (
        (1.0 if word.probability < _UNLIKELY else 0.0)
        + max(0.0, _SHORT - seconds) * _PER_SECOND_TOO_SHORT
        + max(0.0, seconds - _LONG)
    )


def _is_punctuation(text: str) -> bool:
    return all(unicodedata.category(c).startswith("P") for c in text.strip())
