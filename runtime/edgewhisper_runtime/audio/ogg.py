"""Ogg (RFC 3533): pages with checksums and numbers, of one or several streams."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from edgewhisper_runtime.audio.content import (
    Part,
    UnreadableError,
    check_signal,
    cut_short,
    read_at,
)

MAGIC = b"OggS"
_HEADER = 27  # bytes, before the table of segments
_MOST_PAGE = _HEADER + 255 + 255 * 255
_FIRST, _LAST = 2, 4  # flags of a stream's pages
_VORBIS, _FLAC = b"\x01vorbis", b"\x7fFLAC"
_CODECS = (b"OpusHead", _VORBIS, _FLAC)
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True)
class _Page:
    start: int
    stop: int
    flags: int
    serial: bytes
    number: int
    payload: bytes


def ogg(file: BinaryIO, at: int) -> Part:
    """Return the first stream of sound at an offset, up to where the next recording begins.

    All of its pages must be there, unaltered, up to the one that is marked as the last.
    """
    chosen: _Page | None = None
    last: _Page | None = None
    ranges: list[tuple[int, int]] = []
    stop = at
    begun = False  # the first pages of all streams come before the others
    for page in _pages(file, at):
        if begun and page.flags & _FIRST:
            break
        begun = not page.flags & _FIRST
        stop = page.stop
        if chosen is None and page.flags & _FIRST and page.payload.startswith(_CODECS):
            _check_header(page.payload)
            chosen = last = page
            ranges.append((page.start, page.stop))
        elif last and page.serial == last.serial:
            if page.number != last.number + 1 & 0xFFFF_FFFF:
                raise UnreadableError(
                    f"lacks pages before byte {page.start:,}. Copy or download it again."
                )
            last = page
            if ranges[-1][1] == page.start:
                ranges[-1] = (ranges[-1][0], page.stop)
            else:
                ranges.append((page.start, page.stop))
    if last is None:
        raise UnreadableError("holds no Opus, Vorbis or FLAC. Convert it to FLAC.")
    if not last.flags & _LAST:
        raise cut_short("its last page is missing")
    return Part(stop, ranges, None)


def _check_header(head: bytes) -> None:
    """Raise UnreadableError for a rate that no sound has; Opus is always decoded at 48 kHz."""
    if head.startswith(_VORBIS):
        check_signal(int.from_bytes(head[12:16], "little"), int.from_bytes(head[11:12]))
    elif head.startswith(_FLAC):
        check_signal(int.from_bytes(head[27:30]) >> 4, (int.from_bytes(head[29:30]) >> 1 & 7) + 1)


def _pages(file: BinaryIO, at: int) -> Iterator[_Page]:
    while (page := read_at(file, at, _MOST_PAGE)).startswith(MAGIC):
        size = _HEADER
        if len(page) >= size:
            size += page[26] + sum(page[_HEADER : _HEADER + page[26]])
        if len(page) < size:
            raise cut_short("it ends in the middle of a page")
        page = page[:size]
        if _checksum(page[:22] + bytes(4) + page[26:]) != int.from_bytes(page[22:26], "little"):
            raise UnreadableError(f"is damaged at byte {at:,}. Copy or download it again.")
        number = int.from_bytes(page[18:22], "little")
        payload = page[_HEADER + page[26] :]
        yield _Page(at, at + size, page[5], page[14:18], number, payload)
        at += size


def _checksum(page: bytes) -> int:
    """Return the CRC-32 that Ogg takes: zlib's polynomial, from the highest bit, begun with 0."""
    crc = zlib.crc32(page.translate(_REVERSED), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int(f"{crc:032b}"[::-1], 2)
