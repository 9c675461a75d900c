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
    """All that the loop knows of an engine. What it encodes and caches stays in the engine."""

    vocabulary: int  # how many token ids its logits cover

    def encode(self, features: NDArray[np.float32]) -> Any:
        """Encode log-mel features float32 [batch, mels, frames], frames even and at most 3000."""

    def start(self, encoded: Any) -> Any:
        """Return an empty cache for decoding what `encode` returned."""

    def step(self, tokens: Ids, cache: Any) -> Logits:
        """Append tokens int64 [batch, n] to the cache; return float32 logits [batch, vocabulary]
        for the position after the last of them. The caller may write to them.
        """

    def reorder(self, cache: Any, rows: Ids) -> Any:
        """Return the cache with its batch rows selected (and repeated) as `rows` int64 [m] says.

        The cache that is given must not be used again. Rows of one audio best stand together,
        equally many to an audio: then they share what was encoded.
        """

    def attention(
        self, tokens: Ids, encoded: Any, row: int, heads: Sequence[tuple[int, int]]
    ) -> NDArray[np.float32]:
        """Return how tokens int64 [n], prompt included, attend to one row of what was encoded.

        Cross-attention weights float32 [heads, n, positions] of (layer, head) pairs.
        """


@dataclass
class Hypothesis:
    """The tokens that follow a prompt, the end left out, and how likely each of them was.

    `log_probabilities` has one value per token, and one more for the end if it came to one.
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
    failed: Callable[[Sequence[int]], bool] = is_hopeless,
) -> list[Hypothesis]:
    """Go on from each row with the token that `choose` picks, until the end of its text.

    `logits` [rows, vocabulary] are those after the prompts that the cache holds, of one length.
    A row also ends when the decoder has no position left, and when its tokens have `failed`.
    """
    found = [Hypothesis() for _ in logits]
    active = np.arange(len(logits))
    while True:
        rules.apply(logits, [found[row].tokens for row in active])
        chosen = choose(logits)
        likely = _log_probabilities(logits, chosen)
        going = chosen != rules.end_of_text
        for index, row in enumerate(active):
            found[row].log_probabilities.append(float(likely[index]))
            if going[index]:
                found[row].tokens.append(int(chosen[index]))
                going[index] = not failed(found[row].tokens)
        longest = max(len(found[row].tokens) for row in active)
        if not going.any() or longest >= rules.room:
            return found
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
    """Return the likeliest of `count` texts drawn at a temperature, from a cache of one row."""

    def draw(logits: Logits) -> Ids:
        # the largest of logits with Gumbel noise is a draw from their softmax
        noise = random.gumbel(size=logits.shape).astype(np.float32)
        return most_likely(logits / np.float32(temperature) + noise)

    rows = np.zeros(count, dtype=np.int64)
    texts = follow(backend, backend.reorder(cache, rows), logits[rows], rules, draw)
    return max(texts, key=lambda text: text.log_probability)


def beam(backend: Backend, cache: Any, logits: Logits, rules: TokenRules, width: int) -> Hypothesis:
    """Return the likeliest of `width` texts found by beam search, from a cache of one row.

    It ends with as many finished texts; they compete by the mean over their tokens.
    """
    beams, totals = [Hypothesis()], np.zeros(1)
    finished: list[Hypothesis] = []
    while True:
        rules.apply(logits, [one.tokens for one in beams])
        scores = logits - _log_sum(logits)[:, None]
        # of each row as many as could all be wanted, and one more: the end
        best = np.argpartition(scores, -width - 1, axis=1)[:, -width - 1 :]
        sums = totals[:, None] + np.take_along_axis(scores, best, axis=1)
        rows: list[int] = []
        following: list[Hypothesis] = []
        for flat in np.argsort(-sums, axis=None, kind="stable"):
            row, column = divmod(int(flat), best.shape[1])
            token = int(best[row, column])
            if len(following) == width or not np.isfinite(sums[row, column]):
                break
            likely = [*beams[row].log_probabilities, float(scores[row, token])]
            if token == rules.end_of_text:
                finished.append(Hypothesis(beams[row].tokens, likely))
                continue
            following.append(Hypothesis([*beams[row].tokens, token], likely))
            rows.append(row)
        beams = following
        if not beams or len(finished) >= width or len(beams[0].tokens) >= rules.room:
            return max(finished or beams, key=lambda text: text.log_probability)
        totals = np.array([sum(one.log_probabilities) for one in beams])
        cache = backend.reorder(cache, np.array(rows))
        logits = backend.step(np.array([one.tokens[-1:] for one in beams]), cache)


def language_probabilities(logits: Logits, languages: dict[str, int]) -> dict[str, float]:
    """Return how likely each language is, by the logits [vocabulary] after start-of-transcript."""
    found = logits[list(languages.values())]
    likely = np.exp(found - _log_sum(found[None]))
    return dict(zip(languages, map(float, likely), strict=True))


def probability(logits: Logits, token: int) -> float:
    """Return how likely a token is, by logits [vocabulary]."""
    return float(np.exp(logits[token] - _log_sum(logits[None])[0]))


def _log_probabilities(logits: Logits, chosen: Ids) -> NDArray[np.float32]:
    """Return the log-probability of one token for each row."""
    found: NDArray[np.float32] = logits[np.arange(len(logits)), chosen] - _log_sum(logits)
    return found


def _log_sum(logits: Logits) -> NDArray[np.float32]:
    """Return the logarithm of the sum of the exponentials of each row."""
    most = logits.max(axis=1)
    total: NDArray[np.float32] = most + np.log(np.exp(logits - most[:, None]).sum(axis=1))
    return total
