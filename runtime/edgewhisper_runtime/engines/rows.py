"""Which rows of a batch share an audio: beams and samples need no copy of what the encoder gave."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def share(audios: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which audios to keep, int64 [kept], and of which of those each row is, int64 [batch].

    `audios` int64 [batch] says which audio each row is of now. Decoders take rows in equally many
    to an audio, one audio after the other. Where they do not stand like that, each row is given
    an audio of its own.
    """
    kept = audios[np.flatnonzero(np.diff(audios, prepend=-1))]
    each = len(audios) // len(kept)
    if np.array_equal(np.repeat(kept, each), audios):
        return kept, np.repeat(np.arange(len(kept)), each)
    return audios, np.arange(len(audios))
