"""Rows that join, branch and leave: each keeps its audio and its text, whatever moves beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from edgewhisper_runtime.engines.onnx_cache import Cache, empty_past, join
from edgewhisper_runtime.measure import machine

LAYERS, HEADS, ROOM, WIDTH = 2, 3, 40, 4
NAMES = [f"{part}_{n}" for n in range(LAYERS) for part in ("key", "value")]


@dataclass(frozen=True)
class Row:
    """What a row should hold: its audio by its first value, and the values of its positions."""

    audio: int
    positions: int
    text: tuple[float, ...] = ()


def window(number: int, positions: int) -> Cache:
    """Return the cache of one window whose audio is `number` everywhere."""
    shape = (1, HEADS, positions, WIDTH)
    cross = {f"cross_{name}": np.full(shape, number, np.int8) for name in NAMES}
    for array in cross.values():
        array.flags.writeable = False
    return Cache(
        cross=cross,
        audio_lengths=np.array([positions]),
        sources=np.zeros(1, np.int64),
        past=empty_past([f"past_{name}" for name in NAMES], 1, (HEADS, ROOM, WIDTH)),
        lengths=np.zeros(1, np.int64),
        writers=np.full((1, ROOM), -1),
    )


def append(cache: Cache, rows: list[Row], random: np.random.Generator) -> list[Row]:
    """Append a position with a value of its own to each row, as a step of the engine does."""
    values = random.random(len(rows), dtype=np.float32)
    numbers = np.arange(len(rows))
    for array in cache.past.values():
        array[numbers, :, cache.lengths] = values[:, None, None]
    cache.writers[numbers, cache.lengths] = numbers
    cache.lengths += 1
    return [
        replace(row, text=(*row.text, float(value)))
        for row, value in zip(rows, values, strict=True)
    ]


def check(cache: Cache, rows: list[Row]) -> None:
    audios = np.arange(len(rows)) if len(cache.audio_lengths) > 1 else np.zeros(len(rows), int)
    for row, (expected, audio) in enumerate(zip(rows, audios, strict=True)):
        assert cache.lengths[row] == len(expected.text)
        assert cache.audio_lengths[audio] == expected.positions
        for array in cache.cross.values():
            assert (array[audio, :, : expected.positions] == expected.audio).all()
        for array in cache.past.values():
            text = array[row, :, : len(expected.text)]
            np.testing.assert_array_equal(
                text, np.broadcast_to(np.array(expected.text, np.float32)[:, None], text.shape)
            )


@pytest.mark.parametrize("seed", range(20))
def test_each_row_keeps_what_is_its_own(seed: int) -> None:
    """Windows of all lengths join; their rows branch as beams do, change places and end."""
    random = np.random.default_rng(seed)
    cache, rows, numbers = None, [], iter(range(1, 100))
    for _ in range(60):
        if cache is None or (len(rows) < 6 and random.random() < 0.3):
            row = Row(next(numbers), int(random.integers(3, 30)))
            new = window(row.audio, row.positions)
            added = [row]
            for _ in range(random.integers(1, 5)):
                added = append(new, added, random)
            if random.random() < 0.5:
                added *= 3
                new = new.reorder(np.zeros(3, np.int64))
            cache = new if cache is None else join([cache, new])
            rows += added
        elif random.random() < 0.5 and max(len(row.text) for row in rows) < ROOM:
            rows = append(cache, rows, random)
        else:  # beams of one window are chosen anew, or a window ends
            chosen: list[int] = []
            for audio in dict.fromkeys(row.audio for row in rows):
                own = [i for i, row in enumerate(rows) if row.audio == audio]
                if random.random() < 0.8 and len(rows[own[0]].text) < ROOM:
                    chosen += random.choice(own, size=len(own)).tolist()
            cache = cache.reorder(np.array(chosen)) if chosen else None
            rows = [rows[i] for i in chosen]
        if cache is not None:
            check(cache, rows)


def test_a_row_that_joins_or_leaves_moves_no_other() -> None:
    """Of the arrays of a batch nothing is allocated again while there is room."""
    batch = join([window(1, 10), window(2, 12)])
    arrays = {name: array.ctypes.data for name, array in {**batch.cross, **batch.past}.items()}
    for number in range(3, 9):
        batch = join([batch, window(number, 11)]).reorder(np.array([0, 2]))
        for name, array in {**batch.cross, **batch.past}.items():
            assert array.ctypes.data == arrays[name]
        assert batch.cross["cross_key_0"][:2, 0, 0, 0].tolist() == [1, number]


def test_room_for_text_takes_memory_when_it_is_written_to() -> None:
    before = machine.peak_rss()
    past = empty_past(["past_key_0", "past_value_0"], 64, (8, 448, 64))
    assert sum(array.nbytes for array in past.values()) > 100e6
    for array in past.values():
        array[:, :, 0] = 1
    assert machine.peak_rss() - before < 30e6
