"""The decoding loop: one for every backend, so that a difference in text is never the loop's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edgewhisper_runtime.decode.repetition import is_hopeless

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgewhisper_runtime.decode.rules import TokenRules

    Logits = NDArray[np.float32]
    Ids = NDArray[np.int64]


class Backend(Protocol):
    """All that the loop knows of an engine. Encodings and caches stay in the engine's own form."""

    vocabulary: int  # how many token ids its logits cover
    ragged: bool  # whether the rows of a cache may differ in the length of audio and of text

    def encode(self, features: NDArray[np.float32]) -> Any:
        """Encode log-mel features float32 [batch, mels, frames], frames even and at most 3000.

        They need not lie in memory in one piece.
        """

    def start(self, encoded: Any) -> Any:
        """Return an empty cache for decoding what `encode` returned."""

    def step(self, tokens: Ids, cache: Any) -> Logits:
        """Append tokens int64 [batch, n] to the cache; return float32 logits [batch, vocabulary]
        for the position after the last of them. The caller may write to them.

        Several tokens of several rows may cost what the rows would cost one after another.
        """

    def reorder(self, cache: Any, rows: Ids) -> Any:
        """Return the cache with its batch rows selected (and repeated) as `rows` int64 [m] says.

        The cache that is given must not be used again. Rows that are all of one audio share its
        encoding.
        """

    def join(self, caches: Sequence[Any]) -> Any:
        """Return one cache with the rows of all caches, in order.

        Where the backend is `ragged`, the caches may be over audio of different lengths and hold
        different numbers of tokens: each row keeps its own. Else both must be the same for all.
        The caches that are given must not be used again.
        """

    def attention(
        self, tokens: Ids, encoded: Any, row: int, heads: Sequence[tuple[int, int]]
    ) -> NDArray[np.float32]:
        """Return the cross-attention weights of tokens int64 [n] over one row of an encoding.

        The prompt is the first of the tokens. Returns float32 [heads, n, positions] for (layer,
        head) pairs.
        """


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


def most_likely(logits: Logits) -> Ids:
    """Return the most likely token of each row of logits [rows, vocabulary]."""
    best: Ids = logits.argmax(axis=1)
    return best


def follow(
    backend: Backend,
    cache: Any,
    logits: Logits,
    rules: TokenRules,
    choose: Callable[[Logits], Ids] = most_likely,
    has_failed: Callable[[Sequence[int]], bool] = is_hopeless,
) -> list[Hypothesis]:
    """Extend each row by the token that `choose` picks, until the end of its text.

    `logits` [rows, vocabulary] are those after the prompts in the cache, which are of one length.
    A row also ends when the decoder has no position left, and where `has_failed` says so of its
    tokens.
    """
    texts = [Hypothesis() for _ in logits]
    active = np.arange(len(logits))
    while True:
        rules.apply(logits, [texts[row].tokens for row in active])
        chosen = choose(logits)
        log_probabilities = _log_probabilities(logits, chosen)
        going = chosen != rules.end_of_text
        for index, row in enumerate(active):
            texts[row].log_probabilities.append(float(log_probabilities[index]))
            if going[index]:
                texts[row].tokens.append(int(chosen[index]))
                going[index] = not has_failed(texts[row].tokens)
        longest = max(len(texts[row].tokens) for row in active)
        if not going.any() or longest >= rules.room:
            return texts
        if not going.all():
            active, chosen = active[going], chosen[going]
            cache = backend.reorder(cache, np.flatnonzero(going))
        logits = backend.step(chosen[:, None], cache)


def sample(
    backend: Backend,
    cache: Any,
    logits: Logits,
    rules: TokenRules,
    count: int,
    temperature: float,
    random: np.random.Generator,
) -> Hypothesis:
    """Return the most likely of `count` texts sampled at a temperature, from a cache of one row."""

    def draw(logits: Logits) -> Ids:
        # the largest of logits with Gumbel noise is a draw from their softmax
        noise = random.gumbel(size=logits.shape).astype(np.float32)
        return most_likely(logits / np.float32(temperature) + noise)

    rows = np.zeros(count, dtype=np.int64)
    texts = follow(backend, backend.reorder(cache, rows), logits[rows], rules, draw)
    return max(texts, key=lambda text: text.log_probability)


def beam(backend: Backend, cache: Any, logits: Logits, rules: TokenRules, width: int) -> Hypothesis:
    """Return the most likely text of a beam search of `width`, from a cache of one row.

    The search ends with `width` finished texts; the one with the best mean over its tokens wins.
    """
    beams, totals = [Hypothesis()], np.zeros(1)
    finished: list[Hypothesis] = []
    while True:
        rules.apply(logits, [text.tokens for text in beams])
        scores = logits - _log_sum(logits)[:, None]
        # of each row as many as the next beams may need, and one more: the end of the text
        best = np.argpartition(scores, -width - 1, axis=1)[:, -width - 1 :]
        sums = totals[:, None] + np.take_along_axis(scores, best, axis=1)
        rows: list[int] = []
        following: list[Hypothesis] = []
        for flat in np.argsort(-sums, axis=None, kind="stable"):
            row, column = divmod(int(flat), best.shape[1])
            token = int(best[row, column])
            if len(following) == width or not np.isfinite(sums[row, column]):
                break
            log_probabilities = [*beams[row].log_probabilities, float(scores[row, token])]
            if token == rules.end_of_text:
                finished.append(Hypothesis(beams[row].tokens, log_probabilities))
                continue
            following.append(Hypothesis([*beams[row].tokens, token], log_probabilities))
            rows.append(row)
        beams = following
        if not beams or len(finished) >= width or len(beams[0].tokens) >= rules.room:
            return max(finished or beams, key=lambda text: text.log_probability)
        totals = np.array([sum(text.log_probabilities) for text in beams])
        cache = backend.reorder(cache, np.array(rows))
        logits = backend.step(np.array([text.tokens[-1:] for text in beams]), cache)


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
    total: NDArray[np.float32] = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
    return total
