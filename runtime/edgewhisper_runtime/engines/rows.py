"""Which rows of a batch share an audio: beams and samples need no copy of its encoding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def group_rows(audios: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Group the rows of a batch by their audio; return the audios and each row's index.

    `audios` int64 [batch] is the index of each row's audio among all encoded ones. Returns the
    indices of the audios to keep, int64 [kept], and each row's index into these, int64 [batch].
    Decoders take the same number of rows for every audio, next to each other. Rows in another order
    get an audio each: then an audio may be kept several times.
    """
    kept = audios[np.flatnonzero(np.diff(audios, prepend=-1))]
    each = len(audios) // len(kept)
    if np.array_equal(np.repeat(kept, each), audios):
        return kept, np.repeat(np.arange(len(kept)), each)
    return audios, np.arange(len(audios))
