"""Files made of chunks, with samples in one of them: WAV, RF64, W64, AIFF, CAF; and AU.

They say how many bytes of samples they hold, so that is what must be there. A recorder that dies,
or writes to a pipe, leaves 0 or a placeholder: then the samples go on to the end of the file.

WAV and RF64: Microsoft's RIFF specification and EBU Tech 3306. W64: Sony's Wave 64. AIFF: Apple's
AIFF-C draft of 1991. CAF: Apple's Core Audio Format Specification. AU: Sun's audio(4).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from edgewhisper_runtime.audio.content import (
    Layout,
    Part,
    UnreadableError,
    check_signal,
    cut_short,
    read_at,
    size_of,
)

_NAME = 4  # bytes
_AU_HEADER = 20  # bytes after the magic number: five numbers
_MOST_CHUNKS = 10_000
_MOST_HEADER = 1 << 12  # bytes of a chunk that describes the samples
# What writers to a pipe leave as the size: ffmpeg and GStreamer; sox, arecord and libsndfile.
_PLACEHOLDERS = (range(0xFFFF_0000, 0x1_0000_0000), range(0x7FFF_0000, 0x8000_0001))
_UNKNOWN = 0xFFFF_FFFF  # a size that audio(4) leaves open, and that EBU 3306 has elsewhere
_LARGEST = 1 << 62  # bytes; 64-bit sizes from here on are placeholders
_JOINED = {b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"riff", b"caff"}  # begin another file
_BYTES = {"PCM_U8": 1, "PCM_S8": 1, "ULAW": 1, "ALAW": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4,
          "FLOAT": 4, "DOUBLE": 8}  # fmt: skip
_PCM = {1: "PCM_S8", 2: "PCM_16", 3: "PCM_24", 4: "PCM_32"}  # by bytes to a sample
_FLOAT = {4: "FLOAT", 8: "DOUBLE"}
_EXTENSIBLE = 0xFFFE
_EXTENSIBLE_TAG = slice(24, 26)  # where its GUID holds the format tag
_WAVE = {1: {**_PCM, 1: "PCM_U8"}, 3: _FLOAT, 6: {1: "ALAW"}, 7: {1: "ULAW"}}  # by format tag
_WAVE_COMPRESSED = {0x02, 0x11, 0x31}  # Microsoft's ADPCM, IMA ADPCM, GSM 6.10
_AIFF = {
    b"NONE": _PCM, b"twos": _PCM, b"sowt": _PCM, b"in24": _PCM, b"in32": _PCM, b"42ni": _PCM,
    b"23ni": _PCM, b"raw ": {1: "PCM_U8"}, b"fl32": _FLOAT, b"FL32": _FLOAT, b"fl64": _FLOAT,
    b"FL64": _FLOAT, b"alaw": {1: "ALAW", 2: "ALAW"}, b"ALAW": {1: "ALAW", 2: "ALAW"},
    b"ulaw": {1: "ULAW", 2: "ULAW"}, b"ULAW": {1: "ULAW", 2: "ULAW"},
}  # fmt: skip
_AIFF_LITTLE = {b"sowt", b"42ni", b"23ni"}
_AU = {1: "ULAW", 2: "PCM_S8", 3: "PCM_16", 4: "PCM_24", 5: "PCM_32", 6: "FLOAT", 7: "DOUBLE",
       27: "ALAW"}  # fmt: skip
_CAF_FLOAT, _CAF_LITTLE = 1, 2  # flags of linear PCM


@dataclass(frozen=True)
class _Chunk:
    """`size` is what its header says, None where that is a placeholder."""

    name: bytes
    start: int
    size: int | None
    stop: int  # where the next chunk begins


@dataclass(frozen=True)
class _Container:
    """How a container writes its chunks, and which of them holds the samples."""

    before: int  # bytes before the first chunk
    name: int  # bytes of a name, of which the first four are letters
    size: str  # as struct has it
    samples: bytes
    counts_header: bool = False
    align: int = 1


_RIFF = _Container(12, 4, "<I", b"data", align=2)
_RIFX = _Container(12, 4, ">I", b"data", align=2)
_W64 = _Container(40, 16, "<Q", b"data", counts_header=True, align=8)
_FORM = _Container(12, 4, ">I", b"SSND", align=2)
_CAFF = _Container(8, 4, ">Q", b"data")


def wav(file: BinaryIO, at: int) -> Part:
    """Return the WAV, RIFX, RF64 or BW64 file at an offset."""
    container = _RIFX if read_at(file, at, 4) == b"RIFX" else _RIFF
    return _wave(file, at, container)


def w64(file: BinaryIO, at: int) -> Part:
    """Return the Wave 64 file at an offset."""
    return _wave(file, at, _W64)


def _wave(file: BinaryIO, at: int, container: _Container) -> Part:
    chunks = {chunk.name[:4]: chunk for chunk in _chunks(file, at, container)}
    header = _header(file, chunks, b"fmt ", 16)
    order = container.size[0]
    tag, channels, rate, _, align, bits = struct.unpack(f"{order}HHIIHH", header[:16])
    check_signal(rate, channels)
    if tag == _EXTENSIBLE and len(header) >= _EXTENSIBLE_TAG.stop:
        (tag,) = struct.unpack(f"{order}H", header[_EXTENSIBLE_TAG])
    if tag in _WAVE_COMPRESSED:
        return _compressed(file, at, chunks, container)
    width = align // channels if channels and align % channels == 0 else 0
    if tag in _WAVE and bits > 8 * width:
        raise UnreadableError(f"has {bits}-bit samples in {width} bytes. Its header is damaged.")
    subtype = _WAVE.get(tag, {}).get(width)
    layout = _layout(subtype, order == "<", rate, channels, f"format 0x{tag:04x}")
    return _samples(file, chunks, container, layout)


def aiff(file: BinaryIO, at: int) -> Part:
    """Return the AIFF or AIFF-C file at an offset."""
    chunks = {chunk.name: chunk for chunk in _chunks(file, at, _FORM)}
    header = _header(file, chunks, b"COMM", 18)
    channels, frames, bits, exponent, mantissa = struct.unpack(">hIhHQ", header[:18])
    rate = mantissa * 2.0 ** (min(exponent, 16_500) - 16383 - 63)  # IEEE 754's extended precision
    check_signal(rate, channels)
    codec = header[18:22] if read_at(file, at + 8, 4) == b"AIFC" else b"NONE"
    if codec == b"ima4":
        return _compressed(file, at, chunks, _FORM)
    subtype = _AIFF.get(codec, {}).get((bits + 7) // 8)
    layout = _layout(subtype, codec in _AIFF_LITTLE, rate, channels, _named(codec))
    part = _samples(file, chunks, _FORM, layout)
    size = chunks[_FORM.samples].size
    if size and frames * channels * _BYTES[layout.subtype] > size:
        raise UnreadableError("holds fewer samples than it says. It is damaged.")
    return part


def caf(file: BinaryIO, at: int) -> Part:
    """Return the Core Audio file at an offset."""
    chunks = {chunk.name: chunk for chunk in _chunks(file, at, _CAFF)}
    header = _header(file, chunks, b"desc", 32)
    rate, codec, flags, packet, _, channels, bits = struct.unpack(">d4sIIIII", header[:32])
    check_signal(rate, channels)
    if codec == b"alac":
        return _compressed(file, at, chunks, _CAFF)
    width = packet // channels if channels and packet % channels == 0 else 0
    widths = {
        b"lpcm": _FLOAT if flags & _CAF_FLOAT else _PCM, b"alaw": {1: "ALAW"}, b"ulaw": {1: "ULAW"},
    }.get(codec, {})  # fmt: skip
    subtype = widths.get(width) if bits <= 8 * width else None
    little = codec == b"lpcm" and bool(flags & _CAF_LITTLE)
    layout = _layout(subtype, little, rate, channels, _named(codec))
    return _samples(file, chunks, _CAFF, layout)


def au(file: BinaryIO, at: int) -> Part:
    """Return the AU file at an offset."""
    little = read_at(file, at, 4) == b"dns."
    head = read_at(file, at + 4, _AU_HEADER)
    if len(head) < _AU_HEADER:
        raise cut_short("it ends in its header")
    start, size, encoding, rate, channels = struct.unpack("<5I" if little else ">5I", head)
    check_signal(rate, channels)
    layout = _layout(_AU.get(encoding), little, rate, channels, f"encoding {encoding}")
    known = size != _UNKNOWN and (size > 0 or at + start == size_of(file))
    stop = at + start + size if known else size_of(file)
    return _whole(file, _Chunk(b"", at + start, size if known else None, stop), layout, stop)


def _chunks(file: BinaryIO, at: int, container: _Container) -> Iterator[_Chunk]:
    """Yield the chunks of a file, up to what is none."""
    begin, end = at, size_of(file)
    bytes_of_header = container.name + struct.calcsize(container.size)
    large, complete = 0, False
    at += container.before
    for _ in range(_MOST_CHUNKS):
        header = read_at(file, at, bytes_of_header)
        name = header[: container.name]
        if len(header) < bytes_of_header or not _is_name(name[:4]) or name[:4] in _JOINED:
            return
        start = at + bytes_of_header
        (size,) = struct.unpack(container.size, header[container.name :])
        size -= bytes_of_header if container.counts_header else 0
        if name == b"ds64":  # RF64's sizes that need 64 bits; the second is of the samples
            large = int.from_bytes(read_at(file, start + 8, 8), "little")
        if name[:4] == container.samples:
            if complete:
                raise UnreadableError("holds its samples in several chunks. Convert it to FLAC.")
            complete = True
            size = large if large and size == _UNKNOWN else size
            if _is_placeholder(file, start, size, end):
                yield _Chunk(name, start, None, end)
                return
        elif not 0 <= size <= end - start:  # what is cut off is no sound
            size = max(end - start, 0)
        at = start + size
        padding = -(at - begin) % container.align
        if padding > 0 and not any(read_at(file, at, padding)):
            at += padding
        yield _Chunk(name, start, size, min(at, end))
    raise UnreadableError(f"has more than {_MOST_CHUNKS:,} chunks. It is damaged.")


def _is_placeholder(file: BinaryIO, start: int, size: int, end: int) -> bool:
    if size > end - start:
        return size >= _LARGEST or any(size in sizes for sizes in _PLACEHOLDERS)
    # An empty file may go on with other chunks.
    return size <= 0 and start < end and not _is_name(read_at(file, start, 4))


def _is_name(name: bytes) -> bool:
    return len(name) == _NAME and name.isascii() and name.decode().isprintable()


def _named(codec: bytes) -> str:
    return f"codec {codec.decode('ascii', 'replace')!r}"


def _header(file: BinaryIO, chunks: dict[bytes, _Chunk], name: bytes, size: int) -> bytes:
    if name not in chunks:
        raise UnreadableError(f"has no {name.decode().strip()} chunk. It is damaged or cut short.")
    header = read_at(file, chunks[name].start, min(chunks[name].size or 0, _MOST_HEADER))
    if len(header) < size:
        raise UnreadableError(f"has a {name.decode().strip()} chunk that is too short.")
    return header


def _layout(subtype: str | None, little: bool, rate: float, channels: int, codec: str) -> Layout:
    if subtype is None:
        raise UnreadableError(
            f"holds samples of a kind that is not read ({codec}). Convert it to FLAC or 16-bit WAV."
        )
    return Layout(subtype, "LITTLE" if little else "BIG", round(rate), channels)


def _found(chunks: dict[bytes, _Chunk], container: _Container) -> _Chunk:
    if container.samples not in chunks:
        raise cut_short("it ends before its samples begin")
    return chunks[container.samples]


def _samples(
    file: BinaryIO, chunks: dict[bytes, _Chunk], container: _Container, layout: Layout
) -> Part:
    chunk = _found(chunks, container)
    skipped = 0
    if container is _CAFF:
        skipped = 4  # how often the file was edited
    elif container is _FORM:
        skipped = 8 + int.from_bytes(
            read_at(file, chunk.start, 4), "big"
        )  # an offset, a block size
    size = None if chunk.size is None else max(chunk.size - skipped, 0)
    stop = max(chunk.stop for chunk in chunks.values())
    return _whole(file, _Chunk(chunk.name, chunk.start + skipped, size, chunk.stop), layout, stop)


def _whole(file: BinaryIO, samples: _Chunk, layout: Layout, stop: int) -> Part:
    """Return samples without a header; raise UnreadableError where some of them are missing."""
    rate = layout.rate * layout.channels * _BYTES[layout.subtype]  # bytes a second
    there = max(size_of(file) - samples.start, 0)
    size = there if samples.size is None else samples.size
    if size > there:
        raise cut_short(f"its header says {size / rate:.2f} s, {there / rate:.2f} s are there")
    frames = size // (layout.channels * _BYTES[layout.subtype])
    ranges = [(samples.start, samples.start + size)]
    return Part(stop, ranges, frames / layout.rate, layout=layout)


def _compressed(
    file: BinaryIO, at: int, chunks: dict[bytes, _Chunk], container: _Container
) -> Part:
    """Return a file that libsndfile decodes by its own header, after all of it was seen."""
    samples = _found(chunks, container)
    if samples.size is None:
        raise UnreadableError(
            "was not finished by its recorder, and its compressed samples cannot be counted. "
            "Convert it to FLAC."
        )
    if samples.size > size_of(file) - samples.start:
        raise cut_short("it ends before its samples do")
    stop = max(chunk.stop for chunk in chunks.values())
    return Part(stop, [(at, stop)], None)
