"""Audio files to 16 kHz mono samples, block by block."""

from __future__ import annotations

import stat
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from edgewhisper_runtime.audio.content import Part, UnreadableError
from edgewhisper_runtime.audio.decoders import decode
from edgewhisper_runtime.audio.formats import parts
from edgewhisper_runtime.audio.mixing import Mixer, check_range
from edgewhisper_runtime.audio.spool import spooled
from edgewhisper_runtime.errors import AudioError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]
    Source = str | Path | bytes | Samples | Iterator[Samples]

SAMPLE_RATE = 16_000
_BLOCK_SECONDS = 10


def load(source: str | Path | bytes) -> Samples:
    """Return the whole file as float32 samples [n] at 16 kHz, mono, nominally within -1..1.

    Raises AudioError when the file is missing, no audio, empty, cut short, damaged, or holds
    samples that are no sound.
    """
    return np.concatenate(list(stream(source)))


def stream(source: str | Path | bytes) -> Iterator[Samples]:
    """Yield a file, or a file's bytes, as float32 blocks [n] at 16 kHz, mono, in constant memory.

    A file of a format in `formats.FORMATS`, of any rate and number of channels, with all the
    recordings that are joined in it; of a container with several sound tracks, the first. What a
    pipe holds is kept in a temporary file before. Channels are mixed as `mixing.Mixer` does.
    Raises AudioError as `load` does; what is missing is found before the first block, damage in
    the middle when it is reached.
    """
    name = label(source)
    try:
        with _opened(source, name) as file:
            heard = 0
            for part in list(parts(file)):
                with closing(_mono(part, file, name)) as blocks:
                    for block in blocks:
                        heard += len(block)
                        yield block
            if not heard:
                raise UnreadableError("holds 0 s of audio. Record it again.")
    except UnreadableError as error:
        raise AudioError(f"{name} {error}") from error


def label(source: Source) -> str:
    """Return what messages call a source: its path, or "the audio"."""
    return str(source) if isinstance(source, (str, Path)) else "the audio"


def blocks(source: Source) -> Iterator[Samples]:
    """Yield the samples of a file or its bytes, or samples [n] at 16 kHz, all at once or in blocks.

    Raises AudioError.
    """
    if isinstance(source, (str, Path, bytes)):
        yield from stream(source)
    elif isinstance(source, Iterator):
        yield from (checked(block) for block in source if len(block))
    else:
        samples = checked(source)
        size = _BLOCK_SECONDS * SAMPLE_RATE
        yield from (samples[start : start + size] for start in range(0, len(samples), size))


def duration(path: Path) -> float:
    """Return about how many seconds a file holds by its headers; 0 where they do not say."""
    try:
        return header_seconds(path) or 0.0
    except AudioError:
        return 0.0


def header_seconds(path: Path) -> float | None:
    """Return how many seconds a file holds by its headers; None where they do not say.

    Raises AudioError as `load` does, but finds no damage of the sound itself; also for a pipe, of
    which nothing would be left to load.
    """
    try:
        with _opened(path, str(path), pipes=False) as file:
            seconds = [part.seconds for part in parts(file)]
    except UnreadableError as error:
        raise AudioError(f"{path} {error}") from error
    known = [part for part in seconds if part is not None]
    return sum(known) if len(known) == len(seconds) else None


def checked(samples: Samples) -> Samples:
    """Return samples [n] as contiguous float32; raise AudioError when they are unusable."""
    given = np.asarray(samples)
    if given.dtype.kind != "f":
        raise AudioError(
            f"samples are {given.dtype}, not floating point from -1 to 1. Divide int16 by 32768."
        )
    if given.ndim != 1 or given.size == 0:
        raise AudioError(
            f"samples must be a non-empty mono array [n] at 16 kHz, got shape {given.shape}."
        )
    check_range(given, "the array has")
    return np.ascontiguousarray(given, dtype=np.float32)


@contextmanager
def _opened(source: str | Path | bytes, label: str, *, pipes: bool = True) -> Iterator[BinaryIO]:
    if isinstance(source, bytes):
        yield BytesIO(source)
        return
    path = Path(source)
    try:
        status = path.stat()
    except ValueError as error:  # a NUL in the name
        raise UnreadableError(f"could not be opened ({error}).") from error
    except OSError as error:
        raise _unreadable(error) from error
    if stat.S_ISDIR(status.st_mode):
        raise UnreadableError("is a directory, not an audio file. Name the files in it.")
    if stat.S_ISFIFO(status.st_mode) and not pipes:  # opening it could wait for ever
        raise UnreadableError("is a pipe, which is read only once. Save what it holds in a file.")
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISFIFO(status.st_mode):
        raise UnreadableError("is a device, not an audio file. Record from it to a file.")
    try:
        with path.open("rb") as opened:
            if stat.S_ISREG(status.st_mode):
                _check_size(status.st_size)
                yield opened
                return
            with spooled(opened, label) as copy, copy.open("rb") as file:
                _check_size(copy.stat().st_size)
                yield file
    except OSError as error:  # also while it is read: a broken disk
        raise _unreadable(error) from error


def _unreadable(error: OSError) -> UnreadableError:
    if isinstance(error, FileNotFoundError):
        return UnreadableError("does not exist. Check the path.")
    if isinstance(error, PermissionError):
        return UnreadableError("may not be read. Check its permissions.")
    return UnreadableError(f"could not be opened or read ({error}).")


def _check_size(size: int) -> None:
    if size == 0:
        raise UnreadableError("is empty (0 bytes). Record or copy it again.")


def _mono(part: Part, file: BinaryIO, label: str) -> Generator[Samples, None, None]:
    """Yield the samples of one recording at 16 kHz."""
    import soxr

    mixer: Mixer | None = None
    seconds = 0.0
    with closing(decode(part, file)) as decoded:
        for rate, block in decoded:
            if mixer is None:
                mixer = Mixer(rate)
                resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
            check_range(block, f"{label} has", f" at about {seconds:.1f} s")
            seconds += len(block) / rate
            if len(samples := resampler.resample_chunk(mixer.feed(block))):
                yield samples
    if mixer is not None:
        yield resampler.resample_chunk(mixer.finish(), last=True)
