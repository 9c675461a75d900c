"""Which formats are read, told apart by their first bytes, and what a file of them holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from edgewhisper_runtime.audio import chunks, containers, flac, frames, ogg
from edgewhisper_runtime.audio.content import Part, UnreadableError, read_at, size_of
from edgewhisper_runtime.audio.decoders import has_media

_HEAD = 1 << 15  # bytes; two frames of MPEG audio are shorter
_BLOCK = 1 << 20
_ID3_HEADER = 10  # bytes


@dataclass(frozen=True)
class Format:
    """A format: how it is recognized, and who walks it; FFmpeg decodes `media`."""

    name: str
    matches: Callable[[bytes], bool]
    walk: Callable[[BinaryIO, int], Part]
    media: bool = False


def _riff(head: bytes) -> bool:
    return head[:4] in {b"RIFF", b"RIFX", b"RF64", b"BW64"} and head[8:12] == b"WAVE"


FORMATS = (
    Format("WAV", _riff, chunks.wav),
    Format("W64", lambda head: head[:4] == b"riff" and head[24:28] == b"wave", chunks.w64),
    Format(
        "AIFF",
        lambda head: head[:4] == b"FORM" and head[8:12] in {b"AIFF", b"AIFC"},
        chunks.aiff,
    ),
    Format("CAF", lambda head: head[:4] == b"caff", chunks.caf),
    Format("AU", lambda head: head[:4] in {b".snd", b"dns."}, chunks.au),
    Format("FLAC", lambda head: head[:4] == flac.MAGIC, flac.flac),
    Format("Ogg", lambda head: head[:4] == ogg.MAGIC, ogg.ogg),
    Format("MP3", frames.is_mpeg, frames.mpeg),
    Format("AAC", frames.is_adts, frames.adts, media=True),
    Format(
        "AMR", lambda head: head.startswith((b"#!AMR\n", b"#!AMR-WB\n")), frames.amr, media=True
    ),
    Format("MP4", lambda head: head[4:8] in containers.BOXES, containers.mp4, media=True),
    Format("Matroska", lambda head: head[:4] == containers.EBML, containers.matroska, media=True),
    Format("WMA", lambda head: head.startswith(containers.ASF), containers.asf, media=True),
)


def parts(file: BinaryIO) -> Iterator[Part]:
    """Yield the recordings of a file, one after the other to its last byte; tags are left out.

    Raises UnreadableError for what is of another format, or follows a recording and is none.
    """
    at, size = _after_tags(file, 0), size_of(file)
    first = True
    while first or at < size:
        found = _format(read_at(file, at, _HEAD))
        if found is None:
            raise (
                _unknown()
                if first
                else UnreadableError(
                    f"has {size - at:,} bytes behind its sound, at byte {at:,}, that are none. "
                    "It is damaged or joined from parts; convert it to FLAC with another program."
                )
            )
        if found.media and not has_media():
            raise UnreadableError(
                f"is {found.name}, which takes PyAV to read: "
                "pip install 'edgewhisper-runtime[media]', or convert it to FLAC."
            )
        part = found.walk(file, at)
        yield part
        at = _after_tags(file, part.stop)
        first = False


def could_be_audio(head: bytes) -> bool:
    """Return whether a file that begins so may be of a format that is read."""
    from io import BytesIO

    at = _after_tags(BytesIO(head), 0)
    return _format(head[at : at + _HEAD]) is not None or any(head[:at])


def _format(head: bytes) -> Format | None:
    return next((found for found in FORMATS if found.matches(head)), None)


def _unknown() -> UnreadableError:
    names = ", ".join(found.name for found in FORMATS if not found.media)
    media = ", ".join(found.name for found in FORMATS if found.media)
    return UnreadableError(
        f"is of no format that is read ({names}; with PyAV {media}). "
        "Convert it to FLAC, as by `ffmpeg -i FILE out.flac`."
    )


def _after_tags(file: BinaryIO, at: int) -> int:
    """Return where sound may begin: behind zero bytes and tags (ID3, APE, Lyrics3)."""
    size = size_of(file)
    while at < size:
        block = read_at(file, at, _BLOCK)
        zeros = len(block) - len(block.lstrip(b"\0"))
        if block[4:8] in containers.BOXES:  # it begins with the high bytes of its size
            break
        skipped = _tag(block) or zeros
        if not skipped:
            break
        at += skipped
    return min(at, size)


def _tag(block: bytes) -> int:
    """Return the size of the tag that bytes begin with, 0 for none."""
    if block[:3] == b"ID3" and len(block) > _ID3_HEADER:
        size = 0
        for byte in block[6:10]:
            size = size << 7 | byte & 0x7F
        return size + _ID3_HEADER * (2 if block[5] & 0x10 else 1)  # with a footer, or without
    if block[:4] == b"TAG+":
        return 227
    if block[:3] == b"TAG":
        return 128
    if block[:8] == b"APETAGEX":
        return 32 + int.from_bytes(block[12:16], "little")
    if block[:11] == b"LYRICSBEGIN":
        ends = [at + 9 for end in (b"LYRICS200", b"LYRICSEND") if (at := block.find(end)) > 0]
        return min(ends, default=0)
    return 0
