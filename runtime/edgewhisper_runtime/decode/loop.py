"""The decoding loop: one for every backend, so that a difference in text is never the loop's.

It extends many texts at once, whatever way each of them is searched for in.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgewhisper_runtime.decode.search import Ids, Logits, Search


class Backend(Protocol):
    """All that the loop knows of an engine. Encodings and caches stay in the engine's own form."""

    vocabulary: int  # how many token ids its logits cover

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

    def verify(self, tokens: Ids, cache: Any) -> Logits:
        """Append tokens int64 [n] to a cache of one row; return float32 logits [n, vocabulary]
        for the positions after each of them. The caller may write to them.
        """

    def shorten(self, cache: Any, count: int) -> None:
        """Remove the last `count` tokens from a cache of one row."""

    def reorder(self, cache: Any, rows: Ids) -> Any:
        """Return the cache with its batch rows selected (and repeated) as `rows` int64 [m] says.

        The cache that is given must not be used again. Rows that are all of one audio share its
        encoding.
        """

    def join(self, caches: Sequence[Any]) -> Any:
        """Return one cache with the rows of all caches, in order.

        They may be over audio of different lengths and hold different numbers of tokens: each row
        keeps its own. The caches that are given must not be used again.
        """

    def attention(
        self, tokens: Ids, encoded: Any, row: int, heads: Sequence[tuple[int, int]]
    ) -> NDArray[np.float32]:
        """Return the cross-attention weights of tokens int64 [n] over one row of an encoding.

        The prompt is the first of the tokens. Returns float32 [heads, n, positions] for (layer,
        head) pairs.
        """


@dataclass
class Start:
    """A search that has made its first choice: the rows of a cache, and the next token of each."""

    search: Search
    cache: Any
    rows: Ids
    tokens: Ids


def start(
    backend: Backend, search: Search, cache: Any, logits: Logits, draft: Sequence[int] = ()
) -> Start:
    """Begin a search after a prompt: its cache, and the logits [rows, vocabulary] there.

    A `draft` is what the text of a single row will probably be: one call of the engine gives the
    logits after each of its tokens, and the search goes along as far as it chooses the same.
    """
    rows, tokens = search.advance(logits)
    if not draft or not len(rows):
        return Start(search, cache, rows, tokens)
    following = backend.verify(np.array(draft), cache)
    accepted = 0
    while accepted < len(draft) and len(rows) and tokens[0] == draft[accepted]:
        rows, tokens = search.advance(following[accepted : accepted + 1])
        accepted += 1
    backend.shorten(cache, len(draft) - accepted)
    return Start(search, cache, rows, tokens)


Result = TypeVar("Result")
# It yields searches, each of which has ended when it goes on, and returns its result.
Decoding = Generator[Start, None, Result]


@dataclass(eq=False)
class Task(Generic[Result]):
    """A decoding in a step loop: its search and the next token of each of its rows.

    `result` is there when it has ended.
    """

    decoding: Decoding[Result]
    search: Search = field(init=False)
    tokens: Ids = field(init=False)
    result: Result = field(init=False)


class StepLoop:
    """Runs any number of decodings as one batch: each step of the engine extends all their texts.

    Decodings can join at any time; the batch shrinks when a text ends. What the engine raises for
    the batch is raised in every decoding of it.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._tasks: list[Task[Any]] = []  # in the order of their rows
        self._cache: Any = None

    def __len__(self) -> int:
        """Return how many decodings have not ended."""
        return len(self._tasks)

    def __contains__(self, task: Task[Any]) -> bool:
        """Tell whether a decoding has not ended."""
        return task in self._tasks

    def add(self, decoding: Decoding[Result]) -> Task[Result]:
        """Run a decoding up to its first search; the search begins with the next step.

        Raises what the decoding raises.
        """
        task = Task(decoding)
        self._resume(task)
        return task

    def drop(self, task: Task[Any]) -> None:
        """Remove a decoding, if it has not ended."""
        if task in self:
            task.decoding.close()
            self._keep([own[:0] if other is task else own for other, own in self._rows()])

    def step(self) -> None:
        """Extend all texts by a token; raises what a decoding raises."""
        tokens = np.concatenate([task.tokens for task in self._tasks])
        try:
            logits = self._backend.step(tokens[:, None], self._cache)
        except Exception as error:  # noqa: BLE001 # every decoding gets it
            self._fail(error)
            return
        kept = []
        for task, own in self._rows():
            rows, task.tokens = task.search.advance(logits[own])
            kept.append(own[rows])
        for task in self._keep(kept):
            self._resume(task)

    def _rows(self) -> list[tuple[Task[Any], Ids]]:
        """Return the tasks, each with its rows of the batch."""
        ends = np.cumsum([len(task.tokens) for task in self._tasks])
        return list(zip(self._tasks, np.split(np.arange(ends[-1]), ends[:-1]), strict=True))

    def _keep(self, rows: list[Ids]) -> list[Task[Any]]:
        """Select rows of the batch by task; return the tasks without one, which are removed.

        The last task takes the place of a removed one, so that few rows have to move.
        """
        kept = list(zip(self._tasks, rows, strict=True))
        removed = []
        for place in reversed(range(len(kept))):
            if not len(kept[place][1]):
                removed.append(kept[place][0])
                kept[place] = kept[-1]
                kept.pop()
        self._tasks = [task for task, _ in kept]
        order = np.concatenate([own for _, own in kept]) if kept else None
        try:
            self._cache = None if order is None else self._backend.reorder(self._cache, order)
        except Exception as error:  # noqa: BLE001 # every decoding that goes on gets it
            self._fail(error)
        return removed

    def _fail(self, error: Exception) -> None:
        """Raise an error in every decoding; those that go on are a new batch."""
        tasks, self._tasks, self._cache = self._tasks, [], None
        for task in tasks:
            self._resume(task, error)

    def _resume(self, task: Task[Any], error: Exception | None = None) -> None:
        """Run a decoding up to its next search, whose rows join the batch, or to its end."""
        try:
            begun = task.decoding.throw(error) if error else next(task.decoding)
            while not len(begun.tokens):
                begun = next(task.decoding)
        except StopIteration as end:
            task.result = end.value
            return
        task.search, task.tokens = begun.search, begun.tokens
        joined = bool(self._tasks)
        self._tasks.append(task)
        try:
            cache = self._backend.reorder(begun.cache, begun.rows)
            self._cache = self._backend.join([self._cache, cache]) if joined else cache
        except Exception as failed:  # noqa: BLE001 # every decoding gets it
            self._fail(failed)


def run(backend: Backend, decodings: Sequence[Decoding[Result]]) -> list[Result]:
    """Run decodings as one batch to their end; return their results in order."""
    loop = StepLoop(backend)
    tasks = [loop.add(decoding) for decoding in decodings]
    while loop:
        loop.step()
    return [task.result for task in tasks]
