"""A backend whose work can be ended from outside between two of its calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgewhisper_runtime.decode.loop import Backend, Ids, Logits


class InterruptibleBackend:
    """A backend that asks before each call of the engine whether to go on.

    Decoding one window takes hundreds of calls; the longest of them encodes it.
    """

    vocabulary: int
    ragged: bool

    def __init__(self) -> None:
        self._check: Callable[[], None] = _go_on

    def around(self, backend: Backend) -> Backend:
        """Return a backend that calls `backend`; see `loading.load`, `wrap`."""
        self._backend = backend
        self.vocabulary, self.ragged = backend.vocabulary, backend.ragged
        return self

    @contextmanager
    def checked(self, check: Callable[[], None]) -> Iterator[None]:
        """Call `check` before each call of the engine in this block; what it raises ends it."""
        self._check = check
        try:
            yield
        finally:
            self._check = _go_on

    def encode(self, features: NDArray[np.float32]) -> Any:
        """See `Backend.encode`."""
        self._check()
        return self._backend.encode(features)

    def start(self, encoded: Any) -> Any:
        """See `Backend.start`."""
        self._check()
        return self._backend.start(encoded)

    def step(self, tokens: Ids, cache: Any) -> Logits:
        """See `Backend.step`."""
        self._check()
        return self._backend.step(tokens, cache)

    def reorder(self, cache: Any, rows: Ids) -> Any:
        """See `Backend.reorder`."""
        self._check()
        return self._backend.reorder(cache, rows)

    def join(self, caches: Sequence[Any]) -> Any:
        """See `Backend.join`."""
        self._check()
        return self._backend.join(caches)

    def attention(
        self, tokens: Ids, encoded: Any, row: int, heads: Sequence[tuple[int, int]]
    ) -> NDArray[np.float32]:
        """See `Backend.attention`."""
        self._check()
        return self._backend.attention(tokens, encoded, row, heads)


def _go_on() -> None:
    """Interrupt nothing."""
