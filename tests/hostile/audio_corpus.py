"""Audio files of every kind, whole and damaged, made from real speech, and what is right for each.

What is whole must be heard whole. What is damaged is heard to its end, or refused by AudioError;
never short with success, never with another exception.
"""

from __future__ import annotations

import io
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import av
import numpy as np
import soundfile
import soxr

from edgewhisper_runtime import audio
from edgewhisper_runtime.errors import AudioError
from hostile.trial import Trial

RATE = 16_000
TOLERANCE = 0.2  # seconds: delays of codecs
LONGEST = 30.0  # seconds that a file may take
CLIP = 3.0  # seconds of speech in a file
CUTS = 4  # truncated copies of a file
FLIPS = 4  # copies with a bit flipped

_PCM = ["PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"]
# By format: subtypes of libsndfile, and the rates that they are made at.
SOUND: dict[str, tuple[list[str], list[int]]] = {
    "WAV": ([*_PCM, "PCM_U8", "IMA_ADPCM", "MS_ADPCM", "GSM610"], [8_000, 16_000, 44_100]),
    "WAVEX": ([*_PCM, "PCM_U8"], [8_000, 48_000]),
    "RF64": (["PCM_16", "PCM_24", "FLOAT", "ULAW"], [16_000, 48_000]),
    "W64": ([*_PCM, "PCM_U8"], [11_025, 44_100]),
    "AIFF": ([*_PCM, "PCM_S8", "IMA_ADPCM"], [8_000, 44_100]),
    "AU": ([*_PCM, "PCM_S8"], [8_000, 44_100]),
    "CAF": ([*_PCM, "PCM_S8", "ALAC_16"], [16_000, 48_000]),
    "FLAC": (["PCM_S8", "PCM_16", "PCM_24"], [8_000, 16_000, 96_000]),
    "OGG": (["VORBIS", "OPUS", "PCM_16"], [16_000, 48_000]),
    "MP3": (["MPEG_LAYER_III"], [8_000, 16_000, 44_100]),
}
_ONE_CHANNEL = {"GSM610", "IMA_ADPCM in AIFF"}
_RATES = {"OPUS": {8_000, 16_000, 48_000}}
# By name: FFmpeg's muxer, encoder, rates; read with PyAV.
MEDIA: dict[str, tuple[str, str, list[int]]] = {
    "m4a": ("ipod", "aac", [16_000, 44_100]),
    "mp4": ("mp4", "aac", [48_000]),
    "mp4 fragmented": ("mp4", "aac", [48_000]),
    "mov": ("mov", "pcm_s16le", [44_100]),
    "mov alac": ("mov", "alac", [44_100]),
    "3gp": ("3gp", "libopencore_amrnb", [8_000]),
    "webm": ("webm", "libopus", [48_000]),
    "webm live": ("webm", "libopus", [48_000]),
    "mka": ("matroska", "pcm_s16le", [16_000]),
    "mkv": ("matroska", "libmp3lame", [44_100]),
    "wma": ("asf", "wmav2", [44_100]),
    "aac": ("adts", "aac", [16_000, 44_100]),
    "amr": ("amr", "libopencore_amrnb", [8_000]),
}
MUXING = {
    "mp4 fragmented": {"movflags": "frag_keyframe+empty_moov+default_base_moof",
                       "frag_duration": "500000"},
    "webm live": {"live": "1"},
}  # fmt: skip
REFUSED = ["AVR", "IRCAM", "MAT4", "MAT5", "MPC2K", "NIST", "PAF", "PVF", "SDS", "SVX", "VOC",
           "WVE", "XI"]  # fmt: skip
# Formats that do not say how long they are: what is there is all.
_UNCOUNTED = {"aac", "amr", "mp4 fragmented", "webm live"}
# Where the rate stands in what libsndfile writes.
_RATE_BYTES = {"WAV": range(24, 28), "WAVEX": range(24, 28), "RF64": range(56, 64),
               "W64": range(64, 80), "AIFF": range(26, 52), "AU": range(16, 20),
               "CAF": range(20, 28)}  # fmt: skip
# Where what follows could belong to it.
_OPEN = {"FLAC", "amr", "webm live", "wma"}


@dataclass(frozen=True)
class Case:
    """A file, and the seconds that must be heard of it if it is not refused."""

    kind: str  # what was done to it
    name: str  # the format and how it was done
    content: bytes
    seconds: float | None  # None: it must be refused
    refusable: bool = True


def trials(speech: Path, every: int = 1, kind: str | None = None) -> Iterator[Trial]:
    """Hear every n-th file, of all kinds or one."""
    chosen = (case for case in cases(speech) if kind in {None, case.kind})
    for case in islice(chosen, 0, None, every):
        begin = time.perf_counter()
        outcome = attempt(case)
        seconds = time.perf_counter() - begin
        if seconds > LONGEST:
            outcome = f"{outcome}, after {seconds:.0f} s"
        yield Trial(case.kind, case.name, outcome, seconds)


def attempt(case: Case) -> str:
    """Return what reading a file ends in, as `Trial.outcome`."""
    try:
        seconds = sum(len(block) for block in audio.stream(case.content)) / RATE
    except AudioError as error:
        return "refused" if case.refusable else f"refused: {error}"
    except Exception as error:  # noqa: BLE001 # what is looked for
        return f"unexpected {type(error).__name__}: {error}"[:300]
    if case.seconds is None:
        return f"{seconds:.2f} s were heard of what should be refused"
    if seconds < case.seconds - TOLERANCE:
        return f"{seconds:.2f} s of {case.seconds:.2f} s were heard"
    return "handled"


def cases(speech: Path) -> Iterator[Case]:
    """Yield all cases, made of some seconds of speech at 16 kHz; always the same ones."""
    clip, rate = soundfile.read(speech, dtype="float32", frames=int(CLIP * RATE))
    assert rate == RATE
    for label, family, content, seconds in _whole(clip):
        generator = random.Random(label)
        yield Case("whole", label, content, seconds, refusable=False)
        for cut in _cuts(generator, len(content), CUTS):
            kept = content[:cut]
            expected = None
            if family in _UNCOUNTED:
                expected = seconds * cut / len(content) - 0.3
            yield Case("truncated", f"{label} at {cut}", kept, expected)
        for _ in range(FLIPS):
            damaged = bytearray(content)
            at = generator.randrange(
                min(len(content), 400) if generator.random() < 0.5 else len(content)
            )
            damaged[at] ^= 1 << generator.randrange(8)
            yield Case(
                "a bit flipped",
                f"{label} at {at}",
                bytes(damaged),
                _flipped(family, at, seconds),
            )
        yield Case("joined", label, content * 2, 2 * seconds)
        zeros = content + bytes(1000)
        strict = family not in _OPEN
        yield Case("zeros behind", label, zeros, seconds, refusable=not strict)
        garbage = generator.randbytes(5000)
        yield Case("garbage behind", label, content + garbage, seconds)
        tagged = content + b"TAG" + bytes(125)
        strict = family not in _OPEN - {"FLAC", "amr"}
        yield Case("ID3v1 behind", label, tagged, seconds, refusable=not strict)
    yield from _tagged(clip)
    yield from _unfinished(clip)
    yield from _refused(clip)


def _flipped(family: str, at: int, seconds: float) -> float:
    """Return how much must be heard: what a header says of the rate, nothing proves."""
    return 0.0 if at in _RATE_BYTES.get(family, range(0)) else seconds


def _cuts(generator: random.Random, size: int, count: int) -> list[int]:
    return [generator.randrange(1, int(size * 0.97)) for _ in range(count)]


def _whole(clip: np.ndarray) -> Iterator[tuple[str, str, bytes, float]]:
    """Yield a label, the family, the bytes and the seconds of whole files."""
    for name, (subtypes, rates) in SOUND.items():
        for subtype in subtypes:
            for rate in rates:
                if rate not in _RATES.get(subtype, {rate}) or not soundfile.check_format(
                    name, subtype
                ):
                    continue
                samples = soxr.resample(clip, RATE, rate) * 0.9
                for channels in (1, 2):
                    if channels == 2 and (
                        subtype == "GSM610" or (name, subtype) == ("AIFF", "IMA_ADPCM")
                    ):
                        continue
                    content = written(samples, rate, name, subtype, channels)
                    family = name if name != "OGG" else f"OGG {subtype}"
                    yield f"{name} {subtype} {rate} {channels}", family, content, len(clip) / RATE
    for name, (muxer, codec, rates) in MEDIA.items():
        for rate in rates:
            samples = soxr.resample(clip, RATE, rate) * 0.9
            content = muxed(samples, rate, muxer, codec, MUXING.get(name, {}))
            yield f"{name} {codec} {rate}", name, content, len(clip) / RATE


def written(samples: np.ndarray, rate: int, name: str, subtype: str, channels: int = 1) -> bytes:
    """Return a file that libsndfile writes."""
    file = io.BytesIO()
    both = np.tile(samples[:, None], channels)
    soundfile.write(file, both, rate, format=name, subtype=subtype)
    return file.getvalue()


def muxed(
    samples: np.ndarray, rate: int, muxer: str, codec: str, options: dict[str, str] | None = None
) -> bytes:
    """Return a mono file that FFmpeg writes."""
    file = io.BytesIO()
    with av.open(file, "w", format=muxer, options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        assert isinstance(stream, av.AudioStream)
        if codec == "wmav2":
            stream.bit_rate = 64_000
        form = (stream.codec_context.codec.audio_formats or [av.AudioFormat("fltp")])[0].name
        convert = av.AudioResampler(format=form, layout="mono", rate=rate)
        block = av.AudioFrame.from_ndarray(
            samples[None].astype(np.float32), format="fltp", layout="mono"
        )
        block.sample_rate = rate
        for frame in [*convert.resample(block), *convert.resample(None)]:
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def id3v2(size: int = 3000) -> bytes:
    """Return an ID3v2 tag with something in it that looks like a frame."""
    body = (b"\xff\xfb\x90\x64" * size)[:size]
    lengths = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x04\x00\x00" + lengths + body


def _tagged(clip: np.ndarray) -> Iterator[Case]:
    ape = b"APETAGEX" + (2000).to_bytes(4, "little") + (32 + 100).to_bytes(4, "little")
    tags = {
        "ID3v2 before": (id3v2(), b""),
        "large ID3v2 before": (id3v2(2_000_000), b""),
        "two ID3v2 before": (id3v2() + id3v2(100), b""),
        "APE behind": (b"", ape.ljust(32, b"\0") + bytes(100) + ape.ljust(32, b"\0")),
        "Lyrics3 behind": (b"", b"LYRICSBEGININD0000200000017LYRICS200TAG".ljust(39 + 125, b"\0")),
        "ID3v2 and ID3v1": (id3v2(), b"TAG".ljust(128, b" ")),
    }
    for name, (before, behind) in tags.items():
        for rate in (8_000, 16_000, 22_050, 44_100):
            mp3 = written(soxr.resample(clip, RATE, rate), rate, "MP3", "MPEG_LAYER_III")
            content = before + mp3 + behind
            yield Case("tagged", f"MP3 {name} {rate}", content, len(clip) / RATE, refusable=False)
            seconds = 2 * len(clip) / RATE
            yield Case(
                "tagged and joined", f"MP3 {name} {rate}", content * 2, seconds, refusable=False
            )
        for rate in (16_000, 44_100):
            mp3 = muxed(
                soxr.resample(clip, RATE, rate),
                rate,
                "mp3",
                "libmp3lame",
                {"write_xing": "0", "id3v2_version": "0"},
            )
            content = before + mp3 + behind
            yield Case(
                "tagged", f"MP3 {name} {rate} no Xing", content, len(clip) / RATE, refusable=False
            )
            for cut in _cuts(random.Random(name), len(mp3), 4):
                heard = len(clip) / RATE * cut / len(mp3) - 0.3
                yield Case("truncated", f"MP3 {name} no Xing at {cut}", before + mp3[:cut], heard)
            yield Case(
                "tagged and joined",
                f"MP3 {name} {rate} no Xing",
                content * 2,
                2 * len(clip) / RATE,
                refusable=False,
            )


def _unfinished(clip: np.ndarray) -> Iterator[Case]:
    """Yield files whose recorder died, or that were written to a pipe."""
    fields: dict[str, tuple[list[tuple[int, int]], Literal["little", "big"]]] = {
        "WAV": ([(4, 4), (40, 4)], "little"),
        "AU": ([(8, 4)], "big"),
    }
    sizes = {"0": 0, "all bits": 0xFFFF_FFFF, "31 bits": 0x7FFF_FFFF, "sox": 0x7FFF_F000}
    for name, (places, order) in fields.items():
        for subtype in ("PCM_16", "PCM_24", "ULAW") if name == "AU" else ("PCM_16", "PCM_24"):
            for label, size in sizes.items():
                if name == "AU" and size not in {0, 0xFFFF_FFFF}:
                    continue
                content = bytearray(written(clip, RATE, name, subtype))
                for at, width in places:
                    content[at : at + width] = size.to_bytes(width, order)
                for kept in (1.0, 0.5):
                    part = bytes(content[: int(len(content) * kept)])
                    seconds = len(clip) / RATE * kept
                    yield Case(
                        "unfinished",
                        f"{name} {subtype} {label} {kept}",
                        part,
                        seconds,
                        refusable=False,
                    )


def _refused(clip: np.ndarray) -> Iterator[Case]:
    available = soundfile.available_formats()
    for name in REFUSED:
        if name not in available:
            continue
        for subtype in soundfile.available_subtypes(name):
            try:
                content = written(clip, RATE, name, subtype)
            except (soundfile.LibsndfileError, ValueError):
                continue
            for kept in (1.0, 0.7, 0.4):
                part = content[: int(len(content) * kept)]
                yield Case("formats that are not read", f"{name} {subtype} {kept}", part, None)
    raw = (clip * 32767).astype("<i2").tobytes()
    texts = {"raw samples": raw, "text": b"This is no audio. " * 999, "zeros": bytes(99_999),
             "one byte": b"R", "noise": random.Random(0).randbytes(99_999)}  # fmt: skip
    for name, content in texts.items():
        yield Case("no audio", name, content, None)
