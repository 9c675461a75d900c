"""Files made of frames, each with its length in a header of its own: MPEG audio, ADTS, AMR.

They do not say how many frames they have, or only by a frame that some writers add, so that all
are counted. MPEG audio: ISO 11172-3 and 13818-3. ADTS: ISO 14496-3, 1.A.2.2. AMR: RFC 4867.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from edgewhisper_runtime.audio.content import Part, UnreadableError, cut_short, read_at

_BLOCK = 1 << 20
_MOST_FRAME = 1 << 14  # bytes
_MPEG_HEADER, _ADTS_HEADER = 4, 7  # bytes
_MPEG_SYNC = b"\xff\xe0"  # and above
_ADTS_MASK, _ADTS_SYNC = 0xFFF6, 0xFFF0  # the sync word, with layer 0
_MPEG_1 = 3  # version, as the header has it
_MPEG_RATES = {_MPEG_1: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_RESERVED_RATE = 3  # index
_LAYER_1, _LAYER_2, _LAYER_3 = 3, 2, 1  # as the header has them
_KBITS = {  # by layer, and whether it is MPEG-1
    (_LAYER_1, True): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (_LAYER_2, True): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (_LAYER_3, True): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (_LAYER_1, False): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (_LAYER_2, False): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (_LAYER_3, False): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MONO = 3
_COUNTED = 10  # index of a bit rate at which any frame has room for the count of frames
_ADTS_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000,
               7350)  # fmt: skip
_AMR_NB = (13, 14, 16, 18, 20, 21, 27, 32, 6, 0, 0, 0, 0, 0, 0, 1)  # bytes by frame type, with it
_AMR_WB = (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 0, 0, 0, 0, 1, 1)
_AMR_RATE = 50  # frames a second
_DELAY = 4  # frames that a decoder may take off for the delay of the encoder


@dataclass(frozen=True)
class _Frame:
    """What a header says; frames of one recording have the same `kind`."""

    kind: tuple[int, ...]
    size: int  # bytes, with the header
    samples: int  # of one channel
    rate: int  # Hz


Parse = Callable[[bytes], _Frame | None]


def is_mpeg(head: bytes) -> bool:
    """Return whether bytes begin with two frames of MPEG audio, or one that is cut short."""
    return _begins_with_two(head, _mpeg, _MPEG_HEADER)


def is_adts(head: bytes) -> bool:
    """Return whether bytes begin with two frames of ADTS, or one that is cut short."""
    return _begins_with_two(head, _adts, _ADTS_HEADER)


def _begins_with_two(head: bytes, parse: Parse, header: int) -> bool:
    """Tell whether bytes begin with two frames of one kind; `header` is the bytes of a header."""
    first = parse(head)
    if first is None:
        return False
    following = head[first.size :]
    second = parse(following)
    return len(following) < header or (second is not None and second.kind == first.kind)


def mpeg(file: BinaryIO, at: int) -> Part:
    """Return the MP3 file at an offset (or layer I or II), without tags and up to the next.

    libsndfile guesses the length of an MP3 and stops there, unless its first frame counts the
    others, as Xing, LAME and Fraunhofer write it: where it is missing or wrong, it is made.
    """
    begin, declared = at, None
    first = _mpeg(read_at(file, at, _MOST_FRAME))
    if first is None:
        raise UnreadableError("does not begin with a frame of MPEG audio.")
    content = read_at(file, at, first.size)
    declared = _count(content)
    if declared is not None:
        at += first.size
    frames, stop = 0, at
    for frame, start, head in _frames(file, at, _mpeg):
        if frame.kind != first.kind or (frames and _count(head) is not None):
            break
        frames += 1
        stop = start + frame.size
    if declared and declared > frames + 1:  # some count the first one too
        raise cut_short(f"it says that it has {declared:,} frames, {frames:,} are there")
    seconds = max(frames - _DELAY, 0) * first.samples / first.rate
    if declared in {frames, frames + 1}:
        return Part(stop, [(begin, stop)], seconds)
    prefix = _counting(content[:4], frames) if first.kind[1] == _LAYER_3 else b""
    return Part(stop, [(at, stop)], seconds, prefix=prefix)


def adts(file: BinaryIO, at: int) -> Part:
    """Return the AAC file at an offset."""
    return _all(file, at, at, _adts, "aac")


def amr(file: BinaryIO, at: int) -> Part:
    """Return the AMR file at an offset."""
    wide = read_at(file, at, 9) == b"#!AMR-WB\n"
    sizes, samples = (_AMR_WB, 320) if wide else (_AMR_NB, 160)

    def parse(head: bytes) -> _Frame | None:
        size = sizes[head[0] >> 3 & 15] if head and not head[0] & 0x83 else 0
        return _Frame((wide,), size, samples, samples * _AMR_RATE) if size else None

    return _all(file, at, at + (9 if wide else 6), parse, "amr")


def _all(file: BinaryIO, begin: int, at: int, parse: Parse, demuxer: str) -> Part:
    """Return frames of one kind, up to what is none."""
    seconds, frames, stop = 0.0, 0, at
    kind = None
    for frame, start, _ in _frames(file, at, parse):
        if kind not in {None, frame.kind}:
            break
        kind = frame.kind
        seconds += frame.samples / frame.rate
        frames += 1
        stop = start + frame.size
    if not frames:
        raise cut_short("it has no frames")
    return Part(stop, [(begin, stop)], seconds * max(1 - _DELAY / frames, 0), demuxer=demuxer)


def _frames(file: BinaryIO, at: int, parse: Parse) -> Iterator[tuple[_Frame, int, bytes]]:
    """Yield frames with their offsets and first bytes; raise UnreadableError if the last is cut."""
    block, begin = b"", at
    while True:
        if len(block) - (at - begin) < _MOST_FRAME:
            block, begin = read_at(file, at, _BLOCK), at
        head = block[at - begin : at - begin + 64]
        frame = parse(head)
        if frame is None:
            return
        if at - begin + frame.size > len(block):
            raise cut_short("it ends in the middle of a frame")
        yield frame, at, head
        at += frame.size


def _mpeg(head: bytes) -> _Frame | None:
    if len(head) < _MPEG_HEADER or head[:2] < _MPEG_SYNC:
        return None
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bit_rate, rate_index, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    reserved = version not in _MPEG_RATES or layer == 0 or rate_index == _RESERVED_RATE
    if reserved or bit_rate in {0, 15}:  # of any length, or reserved
        return None
    rate = _MPEG_RATES[version][rate_index]
    first = version == _MPEG_1
    kbits = _KBITS[layer, first][bit_rate - 1]
    if layer == _LAYER_1:
        samples, size = 384, (12_000 * kbits // rate + padding) * 4
    else:
        samples = 1152 if first or layer == _LAYER_2 else 576
        size = samples * 125 * kbits // rate + padding
    mono = head[3] >> 6 == _MONO
    return _Frame((version, layer, rate, mono), size, samples, rate)


def _side_information(head: bytes) -> int:
    """Return how many bytes of layer III lie between a header and the count of frames."""
    mono = head[3] >> 6 == _MONO
    if head[1] >> 3 & 3 == _MPEG_1:
        return 17 if mono else 32
    return 9 if mono else 17


def _count(frame: bytes) -> int | None:
    """Return how many frames a first frame says there are, 0 where it does not; None if it is not.

    (Xing's and LAME's Info frame; Fraunhofer's VBRI.)
    """
    if frame[1] >> 1 & 3 != _LAYER_3:
        return None
    at = 4 + _side_information(frame)
    if frame[at : at + 4] in {b"Xing", b"Info"}:
        counted = frame[at + 7 : at + 8] and frame[at + 7] & 1
        return int.from_bytes(frame[at + 8 : at + 12], "big") if counted else 0
    if frame[36:40] == b"VBRI":
        return int.from_bytes(frame[50:54], "big")
    return None


def _counting(head: bytes, frames: int) -> bytes:
    """Return a frame that says how many follow."""
    header = bytes([head[0], head[1] | 1, _COUNTED << 4 | head[2] & 0x0C, head[3]])
    frame = _mpeg(header)
    assert frame is not None  # noqa: S101 # made of one that is
    count = b"Xing" + bytes([0, 0, 0, 1]) + frames.to_bytes(4, "big")
    return (header + bytes(_side_information(header)) + count).ljust(frame.size, b"\0")


def _adts(head: bytes) -> _Frame | None:
    if len(head) < _ADTS_HEADER or int.from_bytes(head[:2]) & _ADTS_MASK != _ADTS_SYNC:
        return None
    index, size = head[2] >> 2 & 15, (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    if index >= len(_ADTS_RATES) or size < _ADTS_HEADER:
        return None
    rate = _ADTS_RATES[index]
    channels = (head[2] & 1) << 2 | head[3] >> 6
    return _Frame((head[2] >> 6, index, channels), size, 1024 * ((head[6] & 3) + 1), rate)
