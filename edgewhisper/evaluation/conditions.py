"""Conditions of a recording: what is done to each utterance's audio before it is decoded.

A condition changes clean speech in the order in which speech meets it: how fast the talker speaks,
noise in the room, the level of the recording, the telephone line. The same utterance gets the same
samples in every evaluation, for every recipe, on every machine.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from edgewhisper.evaluation.formats import tree
from edgewhisper_runtime import audio
from edgewhisper_runtime.audio import SAMPLE_RATE
from edgewhisper_runtime.bundle import parse, to_json
from edgewhisper_runtime.bundle.fields import Count, between
from edgewhisper_runtime.cli.recordings import SUFFIXES
from edgewhisper_runtime.errors import AudioError, DataError

if TYPE_CHECKING:
    from edgewhisper.hashes import HashCache
    from edgewhisper_runtime.audio import Samples

_WORDS, _NUMBERS = {"clean", "telephone"}, {"speed", "level"}
_KEYS = ("noise", "snr", "seed", *_WORDS, *_NUMBERS)
_FORM = "noise=DIR,snr=10[,seed=0], speed=1.1, level=-30, telephone, several of them, or clean"
_MOST = 64  # conditions of an evaluation
# Hz, and the share of the amplitude that passes: the band of ITU-T G.712, nothing from 4 kHz, which
# is what 8000 samples a second can hold.
_BAND = (200.0, 300.0, 3400.0, 4000.0), (0.0, 1.0, 1.0, 0.0)


@dataclass(frozen=True)
class Noise:
    """Recorded noise under the speech, at a ratio of speech to noise of `snr` dB.

    The ratio is of mean power over the whole utterance, as in the noise experiments of the Whisper
    paper (Radford et al. 2022, arXiv 2212.04356, section 3.7). `seed` and the utterance's id
    choose the file and where in it the noise begins, so the noise is the same at every ratio. A
    file that ends before the utterance begins again. `files` has the SHA-256 of each file by its
    path in `directory`.
    """

    directory: str = field(compare=False)  # the files may be kept elsewhere another time
    snr: Annotated[float, between(-40, 100)]
    files: dict[str, str]
    seed: Count = 0

    @property
    def recording(self) -> str:
        """The name of the noise: that of its directory, and the seed unless it is 0."""
        name = Path(self.directory).name or self.directory
        return f"{name} seed {self.seed}" if self.seed else name

    @property
    def label(self) -> str:
        """The name in tables."""
        return f"{self.recording} {self.snr:g} dB"

    def mixed(self, speech: Samples, utterance: str) -> Samples:
        """Return an utterance's samples with noise; raise DataError where that is silent."""
        digest = hashlib.sha256(f"{self.seed} {utterance}".encode()).digest()
        names = sorted(self.files)
        name = names[int.from_bytes(digest[:8]) % len(names)]
        recording = _recording(Path(self.directory) / name)
        first = int.from_bytes(digest[8:16]) % len(recording)
        noise = recording.take(range(first, first + len(speech)), mode="wrap")
        if not noise.any():
            raise DataError(
                f"{Path(self.directory) / name} is silent from {first / SAMPLE_RATE:.2f} s on, for "
                f"the {len(speech) / SAMPLE_RATE:.2f} s of {utterance}, so no ratio to speech can "
                "be reached. Take the file out of the directory, or choose another seed."
            )
        return speech + noise * np.float32(_rms(speech) / _rms(noise) * 10 ** (-self.snr / 20))


@dataclass(frozen=True)
class Condition:
    """What is done to every utterance; nothing unless a field is given.

    `speed` plays speech faster, its pitch raised with it (as in Ko et al. 2015, "Audio augmentation
    for speech recognition"). `noise` is mixed in. `level` is then the RMS of the whole recording in
    dB, 0 that of a full-scale square wave (dBov, ITU-T G.100.1). `telephone` leaves the band from
    300 to 3400 Hz (ITU-T G.712).

    Nothing is clipped: where noise or level would take a sample beyond full scale, the whole
    utterance is made as much quieter as it takes, which leaves the ratio to noise as it is.
    """

    speed: Annotated[float, between(0.5, 2)] = 1.0
    noise: Noise | None = None
    level: Annotated[float, between(-90, 0)] | None = None
    telephone: bool = False

    @property
    def label(self) -> str:
        """The name in tables: "clean", or what is changed."""
        parts = [
            f"speed {self.speed:g}" if self.speed != 1 else "",
            self.noise.label if self.noise else "",
            f"level {self.level:g} dB" if self.level is not None else "",
            "telephone" if self.telephone else "",
        ]
        return ", ".join(filter(None, parts)) or "clean"

    @property
    def identity(self) -> dict[str, Any]:
        """All that changes samples, as JSON."""
        content: dict[str, Any] = to_json(self)
        if self.noise is not None:
            del content["noise"]["directory"]
        return content

    def apply(self, samples: Samples, utterance: str) -> Samples:
        """Return an utterance's samples, float32 [n] at 16 kHz, in this condition.

        Raises DataError where the noise that is chosen is silent, AudioError where it cannot be
        read.
        """
        if self.speed != 1:
            import soxr

            samples = soxr.resample(samples, self.speed * SAMPLE_RATE, SAMPLE_RATE)
        if self.noise is not None:
            samples = self.noise.mixed(samples, utterance)
        if self.level is not None and samples.any():
            samples = samples * np.float32(10 ** (self.level / 20) / _rms(samples))
        if self.noise is not None or self.level is not None:
            samples = samples / max(np.float32(1), np.abs(samples).max())
        if self.telephone:
            spectrum = np.fft.rfft(samples)
            frequencies = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
            passed = spectrum * np.interp(frequencies, *_BAND)
            samples = np.fft.irfft(passed, len(samples)).astype(np.float32)
        return samples


CLEAN = Condition()


def find_conditions(hashes: HashCache, texts: Sequence[str]) -> tuple[Condition, ...]:
    """Return the conditions named by texts as "noise=DIR,snr=0:20:5,telephone"; clean if none is.

    Each text is one condition, or one for each ratio of FROM:TO:STEP in dB, both ends included.
    Noise is read to its end once, as evaluating does many times. Raises DataError for a text that
    is none, a directory without audio or with files that cannot be mixed in, too many conditions,
    or two of the same name.
    """
    found = [condition for text in texts for condition in _conditions(hashes, text)] or [CLEAN]
    if len(found) > _MOST:
        raise DataError(f"more than {_MOST} conditions are too many. Name fewer.")
    labels = [condition.label for condition in found]
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise DataError(
            f"two conditions are called {twice[0]!r}. Name each once, and directories of noise "
            "differently."
        )
    return tuple(found)


def _conditions(hashes: HashCache, text: str) -> list[Condition]:
    try:
        values = _values(text)
        changes: dict[str, Any] = {key: _number(values[key]) for key in _NUMBERS & values.keys()}
        changes["telephone"] = "telephone" in values
        if "noise" not in values:
            return [parse(Condition, changes)]
        noise: dict[str, Any] = {
            "directory": values["noise"],
            "files": _files(hashes, Path(values["noise"])),
            "seed": int(values.get("seed", "0")),
        }
        return [
            parse(Condition, changes | {"noise": noise | {"snr": snr}})
            for snr in _range(values["snr"])
        ]
    except ValueError as error:
        raise DataError(f"--condition {text}: {error} Write {_FORM}.") from error


def _values(text: str) -> dict[str, str]:
    """Return the values of a text by key; raise ValueError where it is no condition."""
    values: dict[str, str] = {}
    for part in re.split(rf",(?=(?:{'|'.join(_KEYS)})(?:=|,|$))", text):  # DIR may have commas
        key, _, value = part.partition("=")
        if key not in _KEYS:
            raise ValueError(f"{part!r} is not understood.")
        if key in values:
            raise ValueError(f"{key} is there twice.")
        if (key in _WORDS) != (part == key) or part == f"{key}=":
            raise ValueError(f"{key} takes {'no' if key in _WORDS else 'a'} value.")
        values[key] = value
    if "clean" in values and len(values) > 1:
        raise ValueError("clean stands alone.")
    if ("noise" in values) != ("snr" in values):
        raise ValueError("noise and snr go together.")
    if "seed" in values and "noise" not in values:
        raise ValueError("seed is of noise.")
    return values


def _number(text: str) -> float:
    return float(text) + 0.0  # -0 becomes 0, or one condition had two names


def _range(text: str) -> Iterable[float]:
    """Return the numbers of NUMBER or FROM:TO:STEP; raise ValueError for anything else."""
    try:
        if ":" not in text:
            return [_number(text)]
        first, last, step = map(_number, text.split(":"))
    except ValueError:
        first, last, step = math.nan, math.nan, math.nan
    if not (-math.inf < first <= last < math.inf and 0 < step < math.inf):
        raise ValueError(f"snr {text!r} is neither a number nor FROM:TO:STEP.")
    count = math.floor(min((last - first) / step + 1e-9, _MOST)) + 1
    return [first + number * step for number in range(count)]


def _files(hashes: HashCache, directory: Path) -> dict[str, str]:
    """Return the SHA-256 of each audio file in and below a directory, by its path there."""
    paths = list(tree.files(directory, SUFFIXES)) if directory.is_dir() else []
    if not paths:
        raise DataError(
            f"{directory} holds no audio file ({', '.join(sorted(SUFFIXES))}). Name a directory "
            "of recorded noise."
        )
    if reasons := list(filter(None, map(_flaw, paths))):
        raise DataError(f"{'; '.join(reasons)}. Take such files out of {directory}.")
    return {path.relative_to(directory).as_posix(): hashes.describe(path).sha256 for path in paths}


def _flaw(path: Path) -> str:
    """Return why a file cannot be mixed in, empty where it can."""
    try:
        audio.header_seconds(path)  # refuses a pipe, for which `stream` would wait
        heard = sum(np.count_nonzero(block) for block in audio.stream(path))
    except AudioError as error:
        return str(error).rstrip(".")
    return "" if heard else f"{path} is silent"


@lru_cache(maxsize=8)
def _recording(path: Path) -> Samples:
    return audio.load(path)


def _rms(samples: Samples) -> float:
    """Return the root of the mean power."""
    return math.sqrt(np.square(samples, dtype=np.float64).mean())


def conditioned(split: str, condition: Condition) -> str:
    """Return the name of a split in a condition: the split's own where speech is clean."""
    return split if condition == CLEAN else f"{split}, {condition.label}"


@dataclass(frozen=True)
class ConditionedSplit:
    """A split in a condition, as a report describes it."""

    split: str
    condition: Condition


def describe(splits: Iterable[str], conditions: Iterable[Condition]) -> dict[str, ConditionedSplit]:
    """Return each split in each condition, by its name; empty where all is clean."""
    described = {
        conditioned(split, condition): ConditionedSplit(split, condition)
        for split, condition in itertools.product(splits, tuple(conditions))
    }
    clean = all(each.condition == CLEAN for each in described.values())
    return {} if clean else described
