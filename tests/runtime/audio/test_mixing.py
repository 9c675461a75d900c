"""Channels that cancel each other: the speech is kept, and nothing else changes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgewhisper_runtime import audio
from edgewhisper_runtime.audio.mixing import Mixer
from edgewhisper_runtime.loading import load

RATE = audio.SAMPLE_RATE


def mixed(*channels: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    soundfile.write(file, np.stack(channels, axis=1), RATE, format="WAV", subtype="FLOAT")
    return audio.load(file.getvalue())


def test_channels_are_averaged(speech: list[Path]) -> None:
    one, other = (audio.load(path)[: 2 * RATE] for path in speech[:2])
    np.testing.assert_array_equal(mixed(one, one), one)
    # Two who speak at once, each into a microphone of their own:
    np.testing.assert_allclose(mixed(one, other), (one + other) / 2, atol=1e-6)
    np.testing.assert_allclose(mixed(one, 0 * one), one / 2, atol=1e-6)


def test_opposite_channels_keep_the_speech(speech: list[Path]) -> None:
    one = audio.load(speech[0])
    np.testing.assert_array_equal(mixed(one, -one), one)
    np.testing.assert_array_equal(mixed(one, -0.7 * one), one)
    # The same constant in both must not hide it.
    np.testing.assert_allclose(mixed(one + 0.3, 0.3 - one), one + 0.3, atol=1e-6)


def test_partly_opposite_channels_fade_without_a_click(speech: list[Path]) -> None:
    one = audio.load(speech[0])[: 8 * RATE]
    half = len(one) // 2
    other = np.concatenate([one[:half], -one[half:]])
    both = mixed(one, other)
    np.testing.assert_array_equal(both[: half - RATE // 10], one[: half - RATE // 10])
    np.testing.assert_array_equal(both[half + RATE // 5 :], one[half + RATE // 5 :])
    assert np.abs(np.diff(both)).max() < 1.5 * np.abs(np.diff(one)).max()


def test_blocks_of_any_size_are_mixed_alike(speech: list[Path]) -> None:
    one = audio.load(speech[0])
    stereo = np.stack([one, np.concatenate([one[:30_000], -one[30_000:]])], axis=1)

    def in_blocks(size: int) -> np.ndarray:
        mixer = Mixer(RATE)
        blocks = [mixer.feed(stereo[at : at + size]) for at in range(0, len(stereo), size)]
        return np.concatenate([*blocks, mixer.finish()])

    whole = in_blocks(len(stereo))
    assert len(whole) == len(stereo)
    for size in (160, 7_777, 160_000):
        np.testing.assert_array_equal(in_blocks(size), whole)


@pytest.mark.parametrize("gain", [-1.0, -0.8, -0.5])
@pytest.mark.parametrize("delay", [0, 2, 20])
def test_the_text_of_opposite_channels(
    data: Path, onnx_bundle: Path, gain: float, delay: int
) -> None:
    speech, _ = soundfile.read(data / "cases" / "stereo_opposite_phase.flac", dtype="float32")
    one = speech[:, 0]
    transcriber = load(onnx_bundle, "cpu", 2)
    text = transcriber.transcribe(mixed(one, gain * np.roll(one, delay))).text
    assert text.replace(",", "").startswith("Hello Bertie")
    assert text.endswith("good in your mind?")
