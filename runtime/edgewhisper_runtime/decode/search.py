"""How the tokens of a window are chosen: greedily, by samples, or by a beam search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from edgewhisper_runtime.decode.repetition import is_hopeless

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgewhisper_runtime.decode.rules import TokenRules

    Logits = NDArray[np.float32]
    Ids = NDArray[np.int64]


@dataclass
class Hypothesis:
    """The tokens that follow a prompt, without the end-of-text token, and how likely each is.

    `log_probabilities` has one value per token, and one more for the end if that was reached.
    """

    tokens: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)

    @property
    def log_probability(self) -> float:
        """The mean over the tokens, natural logarithm; 0 for none."""
        return float(np.mean(self.log_probabilities)) if self.log_probabilities else 0.0

    @property
    def end_probability(self) -> float:
        """The probability of the end; 1 where the text did not reach it."""
        ended = len(self.log_probabilities) > len(self.tokens)
        return float(np.exp(self.log_probabilities[-1])) if ended else 1.0


def most_likely(logits: Logits) -> Ids:
    """Return the most likely token of each row of logits [rows, vocabulary]."""
    best: Ids = logits.argmax(axis=1)
    return best


class Search(Protocol):
    """Chooses the tokens of one window: its texts are rows of the batch."""

    def advance(self, logits: Logits) -> tuple[Ids, Ids]:
        """Take logits [rows, vocabulary], which may be written to, and choose a token for each row.

        Returns which of the rows go on, in a new order or several times, and the next token of
        each of those; none when the search has ended.
        """

    @property
    def best(self) -> Hypothesis:
        """The most likely of its texts."""


class Texts:
    """Texts that are independent of each other: extended by the token that `choose` picks.

    A text also ends when the decoder has no position left, and where `has_failed` says so of its
    tokens.
    """

    def __init__(
        self,
        rules: TokenRules,
        count: int = 1,
        choose: Callable[[Logits], Ids] = most_likely,
        has_failed: Callable[[Sequence[int]], bool] = is_hopeless,
    ) -> None:
        self.texts = [Hypothesis() for _ in range(count)]
        self._rules, self._choose, self._has_failed = rules, choose, has_failed
        self._active = self.texts

    def advance(self, logits: Logits) -> tuple[Ids, Ids]:
        """See `Search.advance`."""
        self._rules.apply(logits, [text.tokens for text in self._active])
        chosen = self._choose(logits)
        going = [
            self._extend(*extension)
            for extension in zip(
                self._active, chosen, _log_probabilities(logits, chosen), strict=True
            )
        ]
        rows = np.flatnonzero(going)
        self._active = [self._active[row] for row in rows]
        return rows, chosen[rows]

    def _extend(self, text: Hypothesis, token: np.int64, log_probability: np.float32) -> bool:
        """Extend a text; return whether it goes on."""
        text.log_probabilities.append(float(log_probability))
        if token == self._rules.end_of_text:
            return False
        text.tokens.append(int(token))
        return len(text.tokens) < self._rules.room and not self._has_failed(text.tokens)

    @property
    def best(self) -> Hypothesis:
        """The most likely of the texts that have not failed: one that repeats itself is likely."""
        return max(
            self.texts, key=lambda text: (not self._has_failed(text.tokens), text.log_probability)
        )


def samples(
    rules: TokenRules, count: int, temperature: float, random: np.random.Generator
) -> Texts:
    """Return a search of `count` texts that are sampled at a temperature."""

    def draw(logits: Logits) -> Ids:
        # the largest of logits with Gumbel noise is a draw from their softmax
        noise = random.gumbel(size=logits.shape).astype(np.float32)
        return most_likely(logits / np.float32(temperature) + noise)

    return Texts(rules, count, draw)


class Beam:
    """A beam search of `width`.

    It ends with `width` finished texts; the one with the best mean over its tokens wins.
    """

    def __init__(self, rules: TokenRules, width: int) -> None:
        self._rules, self._width = rules, width
        self._beams, self._totals = [Hypothesis()], np.zeros(1)
        self._finished: list[Hypothesis] = []

    def advance(self, logits: Logits) -> tuple[Ids, Ids]:
        """See `Search.advance`; the first logits are of one row."""
        self._rules.apply(logits, [text.tokens for text in self._beams])
        scores = logits - _log_sum(logits)[:, None]
        # of each row as many as the next beams may need, and one more: the end of the text
        best = np.argpartition(scores, -self._width - 1, axis=1)[:, -self._width - 1 :]
        sums = self._totals[:, None] + np.take_along_axis(scores, best, axis=1)
        rows: list[int] = []
        beams: list[Hypothesis] = []
        for flat in np.argsort(-sums, axis=None, kind="stable"):
            row, column = divmod(int(flat), best.shape[1])
            token = int(best[row, column])
            if len(beams) == self._width or not np.isfinite(sums[row, column]):
                break
            before = self._beams[row]
            log_probabilities = [*before.log_probabilities, float(scores[row, token])]
            if token == self._rules.end_of_text:
                self._finished.append(Hypothesis(before.tokens, log_probabilities))
                continue
            beams.append(Hypothesis([*before.tokens, token], log_probabilities))
            rows.append(row)
        self._beams = beams
        self._totals = np.array([sum(text.log_probabilities) for text in beams])
        full = bool(beams) and len(beams[0].tokens) >= self._rules.room
        if full or len(self._finished) >= self._width:
            rows, beams = [], []
        tokens = [text.tokens[-1] for text in beams]
        return np.array(rows, dtype=np.int64), np.array(tokens, dtype=np.int64)

    @property
    def best(self) -> Hypothesis:
        """See `Search.best`."""
        return max(self._finished or self._beams, key=lambda text: text.log_probability)


def language_probabilities(logits: Logits, languages: dict[str, int]) -> dict[str, float]:
    """Return how likely each language is, by the logits [vocabulary] after start-of-transcript."""
    scores = logits[list(languages.values())]
    probabilities = np.exp(scores - _log_sum(scores[None]))
    return dict(zip(languages, map(float, probabilities), strict=True))


def probability(logits: Logits, token: int) -> float:
    """Return how likely a token is, by logits [vocabulary]."""
    return float(np.exp(logits[token] - _log_sum(logits[None])[0]))


def _log_probabilities(logits: Logits, chosen: Ids) -> NDArray[np.float32]:
    """Return the log-probability of one token for each row."""
    scores: NDArray[np.float32] = logits[np.arange(len(logits)), chosen]
    return scores - _log_sum(logits)


def _log_sum(logits: Logits) -> NDArray[np.float32]:
    """Return the logarithm of the sum of the exponentials of each row."""
    largest = logits.max(axis=1)
    shifted = logits - largest[:, None]
    total: NDArray[np.float32] = largest + np.log(np.exp(shifted, out=shifted).sum(axis=1))
    return total
