"""What a file holds: recordings one after the other, each a run of its bytes."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from io import BufferedReader, RawIOBase
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BUFFER = 1 << 16
_LOWEST_RATE = 1000  # Hz; below, there is no speech, and an hour could hide in a kilobyte
_HIGHEST_RATE = 1_000_000
_MOST_CHANNELS = 1024


class UnreadableError(Exception):
    """Why a file is refused, as the end of a sentence that begins with its name."""


def cut_short(reason: str) -> UnreadableError:
    """Return the error for a file that ends too early."""
    return UnreadableError(f"is cut short: {reason}. Copy or download it again.")


def check_signal(rate: float, channels: int) -> None:
    """Raise UnreadableError unless sound can have such a rate in Hz and number of channels."""
    if not _LOWEST_RATE <= rate <= _HIGHEST_RATE:
        raise UnreadableError(
            f"says it has {rate:.0f} samples a second: its header is damaged. Copy or export it "
            "again."
        )
    if not 1 <= channels <= _MOST_CHANNELS:
        raise UnreadableError(
            f"says it has {channels:,} channels: its header is damaged. Copy or export it again."
        )


@dataclass(frozen=True)
class Layout:
    """How samples lie in bytes that have no header: libsndfile's names for a raw file."""

    subtype: str
    endian: str  # "LITTLE" or "BIG"
    rate: int  # Hz
    channels: int


@dataclass(frozen=True)
class Part:
    """One recording in a file, and the proof to ask of whoever decodes it.

    `ranges` are the [start, stop) of its bytes in the file, read one after the other behind
    `prefix`. At least `seconds` must come out, None: its container does not say how many.
    `layout`: its bytes are samples and nothing else. `demuxer`: FFmpeg's name of its container,
    empty where libsndfile reads it. `stop` is where the next part of the file may begin.
    """

    stop: int
    ranges: list[tuple[int, int]]
    seconds: float | None
    prefix: bytes = b""
    layout: Layout | None = None
    demuxer: str = ""

    def open(self, file: BinaryIO) -> BufferedReader:
        """Return the bytes of the part as a file of their own."""
        return BufferedReader(_View(file, self.prefix, self.ranges), _BUFFER)


@dataclass
class _View(RawIOBase):
    """Some bytes, then ranges of a file; can be read and sought in as a file."""

    file: BinaryIO
    prefix: bytes
    ranges: list[tuple[int, int]]
    _at: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        lengths = [stop - start for start, stop in self.ranges]
        self._size = len(self.prefix) + sum(lengths)
        # Where each range begins in the view; the last one that was read is where to look first.
        self._begins = [len(self.prefix)]
        for length in lengths:
            self._begins.append(self._begins[-1] + length)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        from bisect import bisect_right

        view = memoryview(buffer).cast("B")
        if self._at >= self._size:
            return 0
        if self._at < len(self.prefix):
            piece = self.prefix[self._at : self._at + len(view)]
        else:
            index = bisect_right(self._begins, self._at) - 1
            start, stop = self.ranges[index]
            start += self._at - self._begins[index]
            self.file.seek(start)
            piece = self.file.read(min(len(view), stop - start))
        view[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


def read_at(file: BinaryIO, at: int, size: int) -> bytes:
    """Return the bytes of a file from an offset, fewer where it ends."""
    file.seek(at)
    return file.read(size)


def size_of(file: BinaryIO) -> int:
    """Return the size of an open file in bytes."""
    return file.seek(0, os.SEEK_END)
