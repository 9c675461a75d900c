"""Rows that share an audio, and those that cannot."""

from __future__ import annotations

import numpy as np
import pytest

from edgewhisper_runtime.engines.rows import group_rows


@pytest.mark.parametrize(
    ("audios", "kept", "of"),
    [
        ([0, 0, 0], [0], [0, 0, 0]),
        ([0, 1, 2], [0, 1, 2], [0, 1, 2]),
        ([0, 0, 2, 2], [0, 2], [0, 0, 1, 1]),
        ([1, 1], [1], [0, 0]),
        ([0, 0, 1], [0, 0, 1], [0, 1, 2]),
        ([0, 0, 0, 1], [0, 0, 0, 1], [0, 1, 2, 3]),
        ([0, 1, 1, 0], [0, 1, 1, 0], [0, 1, 2, 3]),
    ],
)
def test_rows_share_where_they_stand_together(
    audios: list[int], kept: list[int], of: list[int]
) -> None:
    found = group_rows(np.array(audios))
    assert [part.tolist() for part in found] == [kept, of]
