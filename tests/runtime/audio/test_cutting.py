"""Windows of long audio: nothing lost, nothing said twice."""

from __future__ import annotations

from itertools import islice, pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewhisper_runtime.audio import cutting
from edgewhisper_runtime.audio.cutting import Reader, pause_near, pauses, windows
from edgewhisper_runtime.errors import AudioError

RATE = 16_000


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 40 * RATE), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_windows_joined_are_the_audio(lengths: list[int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    blocks = [generator.normal(0, 0.1, length).astype(np.float32) for length in lengths]
    found = list(windows(iter(blocks)))
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate(blocks))
    assert all(0 < len(window) <= 30 * RATE for window in found)


def test_what_fits_is_not_cut() -> None:
    assert [len(w) for w in windows([np.ones(30 * RATE, np.float32)])] == [30 * RATE]


def test_the_cut_is_in_the_pause() -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 50 * RATE).astype(np.float32)
    pause = slice(int(24.0 * RATE), int(24.5 * RATE))
    samples[pause] = 0
    first, second = windows([samples])
    assert pause.start < len(first) < pause.stop
    assert len(first) + len(second) == len(samples)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 400_000), max_size=8), st.randoms())
def test_a_reader_s_windows_are_the_stream(lengths: list[int], random: Random) -> None:
    stream = np.arange(sum(lengths), dtype=np.float32)
    bounds = np.cumsum([0, *lengths])
    reader = Reader(stream[a:b] for a, b in pairwise(bounds))
    start = 0
    while True:
        window = reader.window(start)
        np.testing.assert_array_equal(window, stream[start : start + len(window)])
        assert len(window) == min(480_000, len(stream) - start)
        if not len(window):
            break
        start += random.randint(1, len(window))


def test_quiet_parts_are_pauses_from_their_length_on() -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 5 * RATE).astype(np.float32)
    samples[RATE : RATE + RATE // 5] = 0  # too short
    samples[2 * RATE : 3 * RATE] *= 1e-3
    assert pauses(samples) == [(2.0, 3.0)]
    assert pauses(samples[:0]) == []


def test_silence_is_a_pause_whatever_else_the_window_holds() -> None:
    assert pauses(np.zeros(5 * RATE, np.float32)) == [(0.0, 5.0)]
    samples = np.random.default_rng(0).normal(0, 0.1, 30 * RATE).astype(np.float32)
    samples[RATE:] *= 1e-3  # a second of sound, less than the loudest twentieth
    assert pauses(samples) == [(1.0, 30.0)]


def test_a_click_makes_no_pause_of_soft_sound() -> None:
    samples = np.random.default_rng(0).normal(0, 0.01, 5 * RATE).astype(np.float32)
    samples[RATE : RATE + RATE // 20] = 1
    assert pauses(samples) == []


def test_a_cut_is_where_it_is_quiet_near_the_end_of_the_text() -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 10 * RATE).astype(np.float32)
    samples[int(4.7 * RATE) : int(4.9 * RATE)] = 0
    assert abs(pause_near(samples, 5 * RATE) - 4.8 * RATE) < 0.02 * RATE
    assert pause_near(samples, len(samples)) == len(samples)


@pytest.mark.parametrize("block", [1000, 7000, 48_000])
def test_clips_are_cut_to_the_sample(block: int) -> None:
    audio = np.arange(5 * 16_000, dtype=np.float32)
    blocks = iter(np.split(audio, range(block, len(audio), block)))
    clips = cutting.clips(blocks, [(0.5, 1.0), (1.0, 1.25), (3.0, np.inf)])
    whole = [(first, np.concatenate(list(parts))) for first, parts in clips]
    assert [first for first, _ in whole] == [8000, 16_000, 48_000]
    for (first, samples), length in zip(whole, (8000, 4000, 32_000), strict=True):
        np.testing.assert_array_equal(samples, audio[first : first + length])


SECONDS = st.floats(0, 3) | st.sampled_from([1.001, 1.003, 2.002])


@settings(deadline=None)
@given(st.lists(SECONDS, min_size=2, max_size=6, unique=True).map(sorted), st.integers(1, 20_000))
def test_clips_begin_and_end_at_whole_samples(times: list[float], block: int) -> None:
    audio = np.arange(3 * RATE, dtype=np.float32)
    blocks = np.split(audio, range(block, len(audio), block))
    intervals = list(zip(times[::2], times[1::2], strict=False))
    for (start, end), (first, parts) in zip(
        intervals, cutting.clips(blocks, intervals), strict=True
    ):
        assert first == round(start * RATE)
        samples = np.concatenate([audio[:0], *islice(parts, 1 + len(blocks))])
        np.testing.assert_array_equal(samples, audio[first : round(end * RATE)])


@pytest.mark.parametrize("start", [2.0, 100.0])
def test_a_clip_after_the_end_is_an_error(start: float) -> None:
    blocks = [np.zeros(RATE, np.float32)] * 2
    (_, first), (_, second) = cutting.clips(blocks, [(1.5, 1.75), (start, np.inf)])
    assert sum(map(len, first)) == RATE // 4
    with pytest.raises(AudioError, match=f"is 2 s long: the clip at {start:g} s"):
        list(second)
