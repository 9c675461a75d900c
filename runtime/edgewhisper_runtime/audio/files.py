"""Audio files to 16 kHz mono samples, block by block."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from io import SEEK_CUR, SEEK_END, BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgewhisper_runtime.errors import AudioError

if TYPE_CHECKING:
    import soundfile
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]
    Source = str | Path | bytes | Samples | Iterator[Samples]

SAMPLE_RATE = 16_000
_BLOCK_SECONDS = 10
_LOWEST_RATE = 1000  # Hz; below, there is no speech, and an hour could hide in a kilobyte
_HIGHEST_RATE = 1_000_000
# What libsndfile logs of the chunk that holds the samples: WAV and AIFF, AU, RF64, W64.
_SHORT_CHUNK = re.compile(r"(?:data|SSND|Data Size|Riff size|riff)\s*: (\d+) \(should be (\d+)\)")
_STREAMED = 0x7FFF_0000  # sizes from here on mean "not known yet"
_UNKNOWN_FRAMES = 2**63 - 1  # libsndfile's SF_COUNT_MAX
_OGG = b"OggS\0"
_OGG_FIRST = 2  # flag of a stream's first page (RFC 3533, section 6)
_OGG_HEADER = 27  # bytes, and a page has at most
_OGG_PAGE = _OGG_HEADER + 255 + 255 * 255


def load(source: str | Path | bytes) -> Samples:
    """Return the whole file as float32 samples [n] at 16 kHz, mono, nominally within -1..1.

    Raises AudioError when the file is missing, no audio, empty, cut short or holds NaN.
    """
    return np.concatenate(list(stream(source)))


def stream(source: str | Path | bytes) -> Iterator[Samples]:
    """Yield a file, or a file's bytes, as float32 blocks [n] at 16 kHz, mono, in constant memory.

    Any rate, channel count and format that libsndfile reads; channels are averaged.
    Raises AudioError as `load` does; damage in the middle is found when it is reached.
    """
    import soundfile
    import soxr

    file_or_path: Path | BytesIO
    if isinstance(source, bytes):
        path, file_or_path = "the audio", BytesIO(source)
    else:
        path, file_or_path = str(source), Path(source)
    try:
        if isinstance(file_or_path, Path):
            _check_file(file_or_path)
        # As bytes, since a name need not be UTF-8.
        named = os.fsencode(file_or_path) if isinstance(file_or_path, Path) else file_or_path
        with soundfile.SoundFile(named) as file:
            rate = file.samplerate
            expected = _frames_promised(file)
            _check_header(path, rate, expected)
            if file.format == "OGG":
                _check_ogg(path, source)
            if expected is None:
                file.seekable = lambda: False  # it would seek by the header
            # So many samples of all channels together, or a small file could fill the memory.
            at_once = max(1, rate * _BLOCK_SECONDS // file.channels)
            resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
            frames = 0
            while len(block := file.read(at_once, dtype="float32", always_2d=True)):
                frames += len(block)
                mono = block.mean(axis=1)
                if not np.isfinite(mono).all():
                    raise AudioError(
                        f"{path} holds NaN or infinite samples at about {frames / rate:.1f} s. "
                        "Export it again as integer PCM."
                    )
                yield resampler.resample_chunk(mono)
            if expected is not None and frames < expected:
                raise AudioError(
                    f"{path} is cut short: its header says {expected / rate:.2f} s, "
                    f"{frames / rate:.2f} s could be read. Copy or download it again."
                )
            yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)
    except soundfile.LibsndfileError as error:
        raise AudioError(
            f"{path} could not be read as audio ({error.error_string.rstrip('. ')}). "
            "It may be damaged or of a format libsndfile does not read; convert it to WAV or FLAC."
        ) from error
    except PermissionError as error:
        raise AudioError(f"{path} may not be read. Check its permissions.") from error


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
    """Return the seconds that a file's header announces; 0 where it does not."""
    import soundfile

    try:
        found = soundfile.info(os.fsencode(path))
    except (OSError, soundfile.LibsndfileError):
        return 0.0
    return 0.0 if found.frames == _UNKNOWN_FRAMES else float(found.frames / found.samplerate)


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise AudioError(f"{path} is a directory, not an audio file. Name the files in it.")
    if not path.exists():
        raise AudioError(f"{path} does not exist. Check the path.")
    if path.stat().st_size == 0:
        raise AudioError(f"{path} is empty (0 bytes). Record or copy it again.")
    path.open("rb").close()  # libsndfile does not say that it may not


def _check_header(path: str, rate: int, frames: int | None) -> None:
    if not _LOWEST_RATE <= rate <= _HIGHEST_RATE:
        raise AudioError(
            f"{path} says it has {rate} samples a second: its header is damaged. "
            "Copy or export it again."
        )
    if frames == 0:
        raise AudioError(f"{path} holds 0 s of audio. Record it again.")


def _check_ogg(path: str, source: str | Path | bytes) -> None:
    """Raise AudioError unless an Ogg file is one recording, and all of it.

    libsndfile reads the first of several, and to the end of what there is, without a word.
    """
    with BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as file:
        started = set()
        while len(page := file.read(_OGG_PAGE)) > _OGG_HEADER and page[5] & _OGG_FIRST:
            started.add(page[14:18])
            file.seek(_page_bytes(page) - len(page), SEEK_CUR)
        file.seek(-min(_OGG_PAGE, file.seek(0, SEEK_END)), SEEK_END)
        tail = file.read()
    last = tail[tail.rfind(_OGG) :]
    # Not every writer marks the last page as the last; one that is not whole was cut.
    if len(last) < _OGG_HEADER or len(last) < _page_bytes(last):
        raise AudioError(
            f"{path} is cut short: it ends in the middle of a page. Copy or download it again."
        )
    if last[14:18] not in started:
        raise AudioError(
            f"{path} holds several recordings one after the other, and only the first could be "
            "read. Convert it to FLAC."
        )


def _page_bytes(page: bytes) -> int:
    """Return how long a page of an Ogg file is, by its header and the table that follows it."""
    return _OGG_HEADER + page[26] + sum(page[_OGG_HEADER : _OGG_HEADER + page[26]])


def _frames_promised(file: soundfile.SoundFile) -> int | None:
    """Return the frames that the header announces, None where it was written before they were.

    libsndfile shortens a WAV or AIFF file that ends early without a word, but logs the size
    that its data chunk should have had; writers to a pipe leave a placeholder there.
    """
    if file.frames == _UNKNOWN_FRAMES:
        return None
    chunk = _SHORT_CHUNK.search(file.extra_info)
    if chunk is None or int(chunk[1]) >= _STREAMED:
        return int(file.frames)
    return int(file.frames * int(chunk[1]) / max(int(chunk[2]), 1))


def checked(samples: Samples) -> Samples:
    """Return samples [n] as contiguous float32; raise AudioError when they are unusable."""
    given = np.asarray(samples)
    if given.dtype.kind != "f":
        raise AudioError(
            f"samples are {given.dtype}, not floating point from -1 to 1. Divide int16 by 32768."
        )
    array = np.ascontiguousarray(given, dtype=np.float32)
    if array.ndim != 1 or array.size == 0:
        raise AudioError(
            f"samples must be a non-empty mono array [n] at 16 kHz, got shape {array.shape}."
        )
    if not np.isfinite(array).all():
        raise AudioError("samples hold NaN or infinite values.")
    return array
