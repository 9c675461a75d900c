"""Containers that FFmpeg reads: MP4 and its kin, Matroska and WebM, ASF.

FFmpeg reads a file that was cut as if it ended there, so that all of their boxes, elements and
objects are walked to the end first. MP4: ISO 14496-12. Matroska: RFC 9559 and 8794 (EBML). ASF:
Microsoft's Advanced Systems Format Specification.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from edgewhisper_runtime.audio.content import Part, UnreadableError, cut_short, read_at, size_of

EBML = bytes.fromhex("1a45dfa3")
ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
BOXES = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"}  # that such a file begins with
_BOX = 8  # bytes of the header of a box
_LONGEST_NUMBER = 8  # bytes of a number in Matroska
_OBJECT = 24  # bytes of the header of an object of ASF
_DATA_OBJECT = 50  # bytes of the header of the object with the packets
_SEGMENT, _CLUSTER, _INFO = 0x18538067, 0x1F43B675, 0x1549A966
_TIMESTAMP_SCALE, _DURATION, _TIMESTAMP = 0x2AD7B1, 0x4489, 0xE7
_BLOCKS = {0xA3, 0xA1}
_GROUP = 0xA0
_ENTERED = {_SEGMENT, _CLUSTER, _INFO, _GROUP}
_UNKNOWN = 1 << 63
_REAL = {4: ">f", 8: ">d"}
_ROUNDED = 2.0  # seconds by which the end that Matroska announces may differ from its last block
_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_FIELDS = struct.Struct("<QQQII")  # duration, a time, preroll, flags, bytes of a packet
_BROADCAST = 1  # flag: sizes were not known when the header was written
_PREROLL = 0.5  # seconds that a decoder of WMA may take off


def mp4(file: BinaryIO, at: int) -> Part:
    """Return the MP4, M4A, MOV or 3GP file at an offset."""
    begin, end = at, size_of(file)
    names: list[bytes] = []
    while at < end:
        head = read_at(file, at, 16)
        name = head[4:8]
        if len(head) < _BOX or not name.isascii() or not name.isalnum():
            break
        if name == b"ftyp" and names:
            break
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        elif size == 0:  # to the end
            size = end - at
        if size > end - at or size < _BOX:
            raise cut_short(f"its {name.decode()} box is not whole")
        names.append(name)
        at += size
    if b"moov" not in names:
        raise cut_short("it has no moov box, which its recorder writes last")
    if names[-1] == b"moof":
        raise cut_short("its last fragment has no samples")
    return Part(at, [(begin, at)], None, demuxer="mov")


def matroska(file: BinaryIO, at: int) -> Part:
    """Return the Matroska or WebM file at an offset."""
    stop, live = at, False
    scale, duration, cluster, last = 1_000_000, 0.0, 0, 0
    for identifier, start, size in _elements(file, at):
        stop = start if identifier in _ENTERED else start + size
        if identifier == _SEGMENT:
            live = size == _UNKNOWN
        elif identifier == _TIMESTAMP_SCALE:
            scale = int.from_bytes(read_at(file, start, min(size, 8)), "big")
        elif identifier == _DURATION and size in _REAL:
            (duration,) = struct.unpack(_REAL[size], read_at(file, start, size))
        elif identifier == _TIMESTAMP:
            cluster = int.from_bytes(read_at(file, start, min(size, 8)), "big")
        elif identifier in _BLOCKS:
            _, inside = _number(file, start)
            last = max(last, cluster + int.from_bytes(read_at(file, inside, 2), "big", signed=True))
    # Without a size of the whole, it may end behind any block.
    if live and (duration - last) * scale * 1e-9 > _ROUNDED:
        raise cut_short(
            f"it says that it lasts {duration * scale * 1e-9:.2f} s, and ends after "
            f"{last * scale * 1e-9:.2f} s"
        )
    return Part(stop, [(at, stop)], None, demuxer="matroska")


def _elements(file: BinaryIO, at: int) -> Iterator[tuple[int, int, int]]:
    """Yield the elements up to the next file: identifier, offset and size of the content.

    After one that holds others come the first of these.
    """
    begin, end = at, size_of(file)
    while at < end:
        first = at
        identifier, at = _identifier(file, at)
        if first > begin and identifier == int.from_bytes(EBML, "big"):
            return
        size, at = _number(file, at)
        if size > end - at and size != _UNKNOWN:
            raise cut_short("its last element is not whole")
        if size == _UNKNOWN and identifier not in _ENTERED:
            raise UnreadableError(f"is damaged at byte {first:,}. Copy or download it again.")
        yield identifier, at, size
        if identifier == _SEGMENT and size != _UNKNOWN:
            end = at + size
        if identifier not in _ENTERED:
            at += size


def _identifier(file: BinaryIO, at: int) -> tuple[int, int]:
    """Return the identifier at an offset, its marker kept, and the offset after it."""
    head = read_at(file, at, 8)
    length = 9 - (head[0].bit_length() if head else 8)
    if len(head) < length:
        raise cut_short("it ends in the middle of an element")
    if length > _LONGEST_NUMBER:
        raise UnreadableError(f"is damaged at byte {at:,}. Copy or download it again.")
    return int.from_bytes(head[:length], "big"), at + length


def _number(file: BinaryIO, at: int) -> tuple[int, int]:
    """Return a number, or _UNKNOWN where all its bits are set, and the offset after it."""
    number, after = _identifier(file, at)
    all_set = (1 << 7 * (after - at)) - 1
    number &= all_set
    return (_UNKNOWN if number == all_set else number), after


def asf(file: BinaryIO, at: int) -> Part:
    """Return the ASF (WMA, WMV) file at an offset."""
    begin, end = at, size_of(file)
    header = read_at(file, at, _OBJECT)
    if len(header) < _OBJECT:
        raise cut_short("it ends in its header")
    size = int.from_bytes(header[16:24], "little")
    seconds, packet, broadcast = _asf_properties(read_at(file, at, min(size, 1 << 20)))
    at += size
    while at < end:
        head = read_at(file, at, _OBJECT)
        if head.startswith(ASF) or len(head) < _OBJECT:
            break
        size = int.from_bytes(head[16:24], "little")
        if head.startswith(_DATA) and (broadcast or size < _DATA_OBJECT):
            if packet and (end - at - _DATA_OBJECT) % packet:
                raise cut_short("its last packet is not whole")
            size = end - at
        if size < _OBJECT or size > end - at:
            raise cut_short("its last object is not whole")
        at += size
    if at <= begin + len(header):
        raise cut_short("it ends in its header")
    return Part(at, [(begin, at)], seconds, demuxer="asf")


def _asf_properties(header: bytes) -> tuple[float | None, int, bool]:
    """Return the seconds, the bytes of a packet, and whether both sizes are placeholders."""
    at = header.find(_PROPERTIES)
    fields = header[at + 64 :][: _FIELDS.size]
    if at < 0 or len(fields) < _FIELDS.size:
        raise UnreadableError("has no file properties. It is damaged or cut short.")
    duration, _, preroll, flags, packet = _FIELDS.unpack(fields)
    broadcast = bool(flags & _BROADCAST)
    seconds = duration / 1e7 - preroll / 1e3 - _PREROLL
    return (None if broadcast else max(seconds, 0.0)), packet, broadcast
