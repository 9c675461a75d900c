"""FLAC (RFC 9639): a header that says how many samples follow, and frames with checksums."""

from __future__ import annotations

from typing import BinaryIO

from edgewhisper_runtime.audio.content import (
    Part,
    UnreadableError,
    check_signal,
    cut_short,
    read_at,
    size_of,
)

MAGIC = b"fLaC"
_BEGIN = MAGIC + b"\0\0\0\x22"  # and the header of STREAMINFO, always the first and 34 bytes long
_STREAMINFO = 26  # bytes up to the checksum of the samples in it
_BLOCK = 1 << 20
_ID3V1 = 128


def flac(file: BinaryIO, at: int) -> Part:
    """Return the FLAC file at an offset, up to where another one is joined to it.

    Its number of samples is kept from the decoder, which would stop there; it must come out.
    """
    head = read_at(file, at, _STREAMINFO)
    if len(head) < _STREAMINFO:
        raise cut_short("it ends in its header")
    if (head[4] & 0x7F, *head[5:8]) != (0, 0, 0, 0x22):
        raise UnreadableError("does not begin as FLAC does. It is damaged.")
    rate = int.from_bytes(head[18:21], "big") >> 4
    check_signal(rate, (head[20] >> 1 & 7) + 1)
    total = int.from_bytes(head[21:26], "big") & (1 << 36) - 1
    unknown = head[:21] + bytes([head[21] & 0xF0]) + bytes(4)
    stop = _next(file, at + _STREAMINFO)
    if stop - at > _ID3V1 and read_at(file, stop - _ID3V1, 3) == b"TAG":
        stop -= _ID3V1
    seconds = total / rate if total else None
    return Part(stop, [(at + _STREAMINFO, stop)], seconds, prefix=unknown)


def _next(file: BinaryIO, at: int) -> int:
    """Return where the next FLAC file begins, or this one ends."""
    overlap = len(_BEGIN) - 1
    while block := read_at(file, at, _BLOCK):
        if (found := block.find(_BEGIN)) >= 0:
            return at + found
        if len(block) <= overlap:
            break
        at += len(block) - overlap
    return size_of(file)
