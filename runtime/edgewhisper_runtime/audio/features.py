"""Log-mel features in NumPy, as Whisper was trained on (Radford et al. 2022, section 2.2)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import ThreadpoolController

from edgewhisper_runtime.audio import SAMPLE_RATE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgewhisper_runtime.options import Padding

    Features = NDArray[np.float32]

N_FFT = 400
HOP = 160
FRAMES_PER_SECOND = SAMPLE_RATE // HOP
WINDOW_SECONDS = 30
WINDOW_FRAMES = WINDOW_SECONDS * FRAMES_PER_SECOND
_AT_ONCE = 500  # frames whose mels are computed together: a whole window would take 10 MB
_TRANSFORMED = 50  # frames that are transformed together: they fit into a processor's cache
_SILENCE = -10.0  # log10 of the 1e-10 floor that Whisper puts under the mel power


def log_mel(
    samples: NDArray[np.float32],
    mels: int,
    frames: int = WINDOW_FRAMES,
    padding: Padding = "silence",
) -> Features:
    """Return log-mel features float32 [mels, frames] of samples [n] at 16 kHz.

    Shorter audio is padded with silence before the transform, as transformers does, or with zeros
    after it, as openai-whisper does (docs/evaluation.md compares both).
    Raises ValueError when the samples do not fit: audio is never cut.
    """
    if len(samples) > frames * HOP:
        raise ValueError(f"{len(samples)} samples do not fit into {frames} frames of {HOP}")
    half = N_FFT // 2
    padded = np.zeros(frames * HOP + N_FFT, dtype=np.float32)
    padded[half : half + len(samples)] = samples
    padded[:half] = padded[2 * half : half : -1]  # both ends are mirrored
    padded[-half:] = padded[-half - 2 : -2 * half - 2 : -1]
    # Frames after the end of the sound hold only zeros: they need no transform.
    sounding = min(frames, (len(samples) + half) // HOP + 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP][:sounding]
    log_power = np.full((mels, frames), _SILENCE, dtype=np.float32)
    # NumPy's threads do not speed up so small a product, but their spinning slows the engine.
    with _threads().limit(limits=1, user_api="blas"):
        for start in range(0, sounding, _AT_ONCE):
            some = slice(start, min(start + _AT_ONCE, sounding))
            mel_power = mel_filters(mels) @ _power(windows[some]).T
            log_power[:, some] = np.log10(np.maximum(mel_power, 1e-10))
    np.maximum(log_power, log_power.max() - 8.0, out=log_power)
    log_power += 4.0
    log_power /= 4.0
    if padding == "zeros":
        log_power[:, len(samples) // HOP :] = 0.0
    return log_power


def _power(windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the power spectrum float32 [n, 201] of windows [n, 400]."""
    spectrum = np.empty((len(windows), N_FFT // 2 + 1), np.float32)
    for start in range(0, len(windows), _TRANSFORMED):
        some = slice(start, start + _TRANSFORMED)
        spectrum[some] = np.abs(np.fft.rfft(windows[some] * _hann(), axis=1))
    return spectrum**2


@lru_cache
def mel_filters(mels: int) -> NDArray[np.float32]:
    """Return the triangular mel filter bank float32 [mels, 201] for 0 to 8 kHz.

    Slaney's scale and area normalisation (Auditory Toolbox, 1998): linear up to 1 kHz at
    200/3 Hz per mel, then 27 mels per factor of 6.4.
    """
    edges = _mel_to_hz(np.linspace(0.0, _hz_to_mel(SAMPLE_RATE / 2), mels + 2))
    bins = np.fft.rfftfreq(N_FFT, 1 / SAMPLE_RATE)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    area = 2.0 / (edges[2:] - edges[:-2])
    return (triangles * area[:, None]).astype(np.float32)


_LINEAR_HZ_PER_MEL = 200.0 / 3
_LOG_START_HZ = 1000.0
_LOG_START_MEL = _LOG_START_HZ / _LINEAR_HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27.0


def _hz_to_mel(hz: float) -> float:
    return float(_LOG_START_MEL + np.log(hz / _LOG_START_HZ) / _LOG_STEP)


def _mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    log_part = _LOG_START_HZ * np.exp(_LOG_STEP * (mel - _LOG_START_MEL))
    return np.where(mel < _LOG_START_MEL, mel * _LINEAR_HZ_PER_MEL, log_part)


@lru_cache
def _threads() -> ThreadpoolController:
    return ThreadpoolController()


@lru_cache
def _hann() -> NDArray[np.float32]:
    return np.hanning(N_FFT + 1)[:-1].astype(np.float32)
