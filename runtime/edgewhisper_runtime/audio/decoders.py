"""One recording decoded: by libsndfile, or by FFmpeg's libraries, which come with PyAV."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from edgewhisper_runtime.audio.content import Part, UnreadableError, check_signal, cut_short

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from numpy.typing import NDArray

    Blocks = Generator[tuple[int, NDArray[np.float32]], None, None]

_BLOCK_SECONDS = 10
_UNKNOWN_FRAMES = 2**63 - 1  # libsndfile's SF_COUNT_MAX
_CODECS = (
    "aac,ac3,alac,amrnb,amrwb,eac3,flac,libopencore_amrnb,libopencore_amrwb,mp1,mp1float,mp2,"
    "mp2float,mp3,mp3float,opus,libopus,pcm_alaw,pcm_f32be,pcm_f32le,pcm_f64be,pcm_f64le,pcm_mulaw,"
    "pcm_s16be,pcm_s16le,pcm_s24be,pcm_s24le,pcm_s32be,pcm_s32le,pcm_s8,pcm_u8,vorbis,wmalossless,"
    "wmapro,wmav1,wmav2,wmavoice"
)
# FFmpeg opens nothing but the bytes that it is given.
_CLOSED = {"protocol_whitelist": "", "codec_whitelist": _CODECS}
_TOLERANCE = 0.1  # seconds: lengths in containers are rounded, and codecs work in blocks


def has_media() -> bool:
    """Return whether PyAV is installed, which reads what libsndfile does not."""
    try:
        import av  # noqa: F401 # to see
    except ImportError:
        return False
    return True


def decode(part: Part, file: BinaryIO) -> Blocks:
    """Yield the rate in Hz, always the same, and float32 [samples, channels], in bounded memory.

    Raises UnreadableError for damage, and where less comes out than the part must hold.
    """
    seconds = 0.0
    # Closed here, also where the caller stops early: `file` may be closed before it is collected.
    with closing(_ffmpeg(part, file) if part.demuxer else _libsndfile(part, file)) as blocks:
        for rate, block in blocks:
            seconds += len(block) / rate
            yield rate, block
    if part.seconds is not None and seconds < part.seconds - _TOLERANCE:
        raise cut_short(f"it should hold {part.seconds:.2f} s, {seconds:.2f} s could be read")


def _libsndfile(part: Part, file: BinaryIO) -> Blocks:
    import soundfile

    raw = {}
    if layout := part.layout:
        raw = {"format": "RAW", "samplerate": layout.rate, "channels": layout.channels,
               "subtype": layout.subtype, "endian": layout.endian}  # fmt: skip
    # libsndfile calls back into Python to read, and an exception is lost on the way; Ctrl-C is
    # one, but only in the main thread.
    with part.open(file) as content, ThreadPoolExecutor(1) as thread:
        # Interrupted while it starts, a thread is not waited for: it has nothing to do by then.
        thread.submit(int).result()
        opened = thread.submit(soundfile.SoundFile, content, **raw)
        try:
            sound = opened.result()
            check_signal(sound.samplerate, sound.channels)
            expected = sound.frames
            if expected == _UNKNOWN_FRAMES:
                expected = 0
                sound.seekable = lambda: False  # it would seek by the header
            # So many samples of all channels together, or a small file could fill the memory.
            count = max(1, sound.samplerate * _BLOCK_SECONDS // sound.channels)
            read = partial(sound.read, count, dtype="float32", always_2d=True)
            while len(block := thread.submit(read).result()):
                expected -= len(block)
                yield sound.samplerate, block
            if expected > sound.samplerate * _TOLERANCE:
                missing = f"{expected / sound.samplerate:.2f} s at its end cannot be read"
                raise cut_short(missing)
        except soundfile.LibsndfileError as error:
            reason = error.error_string.strip(". \n").replace("\n", " ")
            raise UnreadableError(
                f"could not be read to its end ({reason}). It is damaged; copy or download it "
                "again."
            ) from error
        finally:
            with suppress(RuntimeError):  # it was never open, or the interpreter ends
                thread.submit(lambda: opened.result().close()).result()


def _ffmpeg(part: Part, file: BinaryIO) -> Blocks:
    import av

    try:
        with (
            part.open(file) as content,
            av.open(content, "r", format=part.demuxer, options=_CLOSED) as container,
        ):
            yield from _decoded(container, _sound_track(container))
    except (av.error.FFmpegError, ValueError) as error:
        reason = str(getattr(error, "strerror", error) or error)
        raise UnreadableError(
            f"could not be read to its end ({reason}). It is damaged; copy or download it again."
        ) from error


def _sound_track(container: InputContainer) -> AudioStream:
    if not container.streams.audio:
        raise UnreadableError("holds no sound track.")
    return container.streams.audio[0]


def _decoded(container: InputContainer, track: AudioStream) -> Blocks:
    from av.audio.resampler import AudioResampler

    packets = samples = 0
    planes = AudioResampler(format="fltp")
    format_of_all = None
    for packet in container.demux(track):
        if packet.is_corrupt:
            raise cut_short("a packet of its sound is not whole")
        packets += bool(packet.size)
        for frame in packet.decode():
            kind = frame.sample_rate, frame.layout.name
            if format_of_all not in {None, kind}:
                raise UnreadableError(
                    "changes its rate or channels on the way. Convert it to FLAC."
                )
            format_of_all = kind
            check_signal(frame.sample_rate, frame.layout.nb_channels)
            for converted in planes.resample(frame):
                samples += converted.samples
                yield frame.sample_rate, converted.to_ndarray().astype(np.float32, copy=False).T
    # MP4 counts packets, or samples where they are not compressed.
    counted = samples if track.codec_context.name.startswith("pcm_") else packets
    if counted < track.frames:
        raise cut_short(f"it says that it has {track.frames:,} packets, {counted:,} are there")
