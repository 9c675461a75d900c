"""Log-mel features against transformers' extractor, on real speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgewhisper_runtime import audio
from edgewhisper_runtime.audio import features


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("mels", [80, 128])
def test_equal_to_the_reference_extractor(speech: list[Path], mels: int) -> None:
    from transformers import WhisperFeatureExtractor

    reference = WhisperFeatureExtractor(feature_size=mels)
    for path in speech:
        samples = audio.load(path)
        expected = reference(samples, sampling_rate=16_000, return_tensors="np").input_features[0]
        ours = features.log_mel(samples, mels)
        assert ours.shape == expected.shape == (mels, 3000)
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, expected, atol=2e-4)


def test_zeros_follow_the_last_whole_hop_of_sound(speech: list[Path]) -> None:
    samples = audio.load(speech[0])
    heard = len(samples) // 160
    silent = features.log_mel(samples, 80)
    zeros = features.log_mel(samples, 80, padding="zeros")
    np.testing.assert_array_equal(zeros[:, :heard], silent[:, :heard])
    assert silent[:, heard:].any()
    assert not zeros[:, heard:].any()


@pytest.mark.usefixtures("host")
def test_equal_when_the_window_is_full() -> None:
    from transformers import WhisperFeatureExtractor

    samples = np.random.default_rng(0).normal(0, 0.1, 480_000).astype(np.float32)
    expected = WhisperFeatureExtractor()(samples, sampling_rate=16_000, return_tensors="np")
    np.testing.assert_allclose(features.log_mel(samples, 80), expected.input_features[0], atol=2e-4)


def test_a_shorter_window_holds_the_same_features(speech: list[Path]) -> None:
    samples = audio.load(speech[0])[: 5 * audio.SAMPLE_RATE]
    whole = features.log_mel(samples, 80)
    short = features.log_mel(samples, 80, frames=600)
    np.testing.assert_allclose(short, whole[:, :600], atol=1e-5)


def test_audio_is_never_cut() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        features.log_mel(np.zeros(480_001, np.float32), 80)


def test_one_sample_is_enough() -> None:
    assert np.isfinite(features.log_mel(np.ones(1, np.float32), 80)).all()
