"""The decoder's caches: keys and values by row, in memory that rows join and leave."""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    Arrays = Mapping[str, NDArray[Any]]


@dataclass
class Call:
    """A step of some rows of a cache: the arrays that it reads and writes, bound to the decoder.

    `shape`: the tokens of a row, and after how many of them logits are computed.
    """

    rows: slice
    shape: tuple[int, int]
    arrays: dict[str, NDArray[Any]]
    binding: Any


@dataclass
class Cache:
    """Keys and values of both attentions, [rows, heads, positions, width of a head].

    `past` float32 has all positions of text; the decoder writes into it. By row: `lengths` int64
    [batch], how many positions are filled; `writers` int64 [batch, positions], the row that
    computed each of them, -1 beyond. `cross` is the encoder's output, of one audio for all rows or
    of one for each row: `sources` int64 [batch] is equal for rows of one audio, and `audio_lengths`
    int64 [audios] are the positions of an audio. `call` is used again while the step's shape is the
    same.

    Arrays of joined caches have room: more rows, and for short audio more positions, than are in
    use. So a row that joins is all that is copied, or the one that takes the place of a row that
    has ended.
    """

    cross: Arrays
    audio_lengths: NDArray[np.int64]
    sources: NDArray[np.int64]
    past: Arrays
    lengths: NDArray[np.int64]
    writers: NDArray[np.int64]
    call: Call | None = None

    def reorder(self, rows: NDArray[np.int64]) -> Cache:
        """Select batch rows; this cache must not be used again.

        What is in its place already is not copied: rows that stay, the text that rows have in
        common, and the encoder's output where all rows are of one audio.
        """
        if np.array_equal(rows, np.arange(len(self.lengths))):
            return self
        sources, cross, audio_lengths = self.sources[rows], self.cross, self.audio_lengths
        if len(audio_lengths) > 1 and not np.array_equal(sources, self.sources):
            audios = rows[:1] if (sources == sources[0]).all() else rows
            cross = {name: _select(array, audios) for name, array in cross.items()}
            audio_lengths = audio_lengths[audios]
        past = _past_with_room(self.past, len(rows))
        writers = self.writers[rows]
        present = np.full_like(writers, -2)  # the writers of what is in the rows' places
        if past is self.past:
            kept = min(len(rows), len(self.writers))
            present[:kept] = self.writers[:kept]
        missing = (writers != present)[:, : self.lengths.max()]
        moved = np.flatnonzero(missing.any(axis=1))
        if len(moved):
            different = slice(missing.any(axis=0).argmax(), self.lengths[rows[moved]].max())
            for name, array in self.past.items():
                past[name][moved, :, different] = array[rows[moved], :, different]
        same = past is self.past and cross is self.cross and len(rows) == len(self.lengths)
        return Cache(
            cross, audio_lengths, sources, past, self.lengths[rows], writers,
            self.call if same else None,
        )  # fmt: skip


def join(caches: Sequence[Cache]) -> Cache:
    """Return one cache with the rows of all; each keeps its length of audio and of text.

    The caches must not be used again: the first one's arrays are used where they have room.
    """
    counts = [len(cache.lengths) for cache in caches]
    ends = np.cumsum(counts)
    firsts = np.cumsum([0, *(cache.sources.max() + 1 for cache in caches[:-1])])
    places = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
    cross = {}
    for name, array in caches[0].cross.items():
        shapes = [cache.cross[name].shape[1:] for cache in caches]
        cross[name] = _cross_with_room(array, int(ends[-1]), np.max(shapes, axis=0))
    past = _past_with_room(caches[0].past, int(ends[-1]))
    for cache, place, count in zip(caches, places, counts, strict=True):
        audios = len(cache.audio_lengths)
        for name, array in cache.cross.items():
            if array is not cross[name] or audios < count:
                inside = tuple(slice(0, size) for size in array.shape[1:])
                cross[name][place][:, *inside] = array[:audios]
        if cache.past is not past:
            filled = cache.lengths.max()
            for name, array in cache.past.items():
                past[name][place, :, :filled] = array[:count, :, :filled]
    lengths = np.concatenate([cache.lengths for cache in caches])
    is_filled = np.arange(caches[0].writers.shape[1]) < lengths[:, None]
    return Cache(
        cross=cross,
        audio_lengths=np.concatenate(
            [np.broadcast_to(c.audio_lengths, n) for c, n in zip(caches, counts, strict=True)]
        ),
        sources=np.concatenate([c.sources + n for c, n in zip(caches, firsts, strict=True)]),
        past=past,
        lengths=lengths,
        writers=np.where(is_filled, np.arange(len(lengths))[:, None], -1),
    )


def empty_past(
    names: Sequence[str], rows: int, shape: Sequence[int]
) -> dict[str, NDArray[np.float32]]:
    """Return empty keys and values float32 [rows, ...] under each name."""
    block = _zeros((len(names), rows, *shape), np.float32)
    return dict(zip(names, block, strict=True))


def _zeros(shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
    """Return zeros that take no memory until they are written to, and none when they are gone.

    NumPy asks the system for pages of 2 MB, of which a text would fill a small part each.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer(mmap.mmap(-1, size), dtype).reshape(shape)


def _past_with_room(past: Arrays, rows: int) -> Arrays:
    """Return the arrays if they have room for so many rows, else empty ones for twice as many."""
    array = next(iter(past.values()))
    return past if len(array) >= rows else empty_past(list(past), 2 * rows, array.shape[1:])


def _cross_with_room(array: NDArray[Any], rows: int, shape: NDArray[np.int64]) -> NDArray[Any]:
    """Return an array if rows of a shape have room in it, else zeros with room for twice as many.

    What the encoder returned is read-only, and has room for nothing.
    """
    if array.flags.writeable and len(array) >= rows and (array.shape[1:] >= shape).all():
        return array
    return _zeros((2 * rows, *shape), array.dtype)


def _select(array: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """Return an array whose first rows are those that are given, in place where it has room."""
    if not array.flags.writeable or len(array) < len(rows):
        return array[rows]
    moved = np.flatnonzero(rows != np.arange(len(rows)))
    array[moved] = array[rows[moved]]
    return array
