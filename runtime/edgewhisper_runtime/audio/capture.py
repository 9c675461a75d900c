"""Live sound from a pipe or a microphone, read by a thread so that none is lost."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Generator, Iterator
from contextlib import closing
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from edgewhisper_runtime.audio import SAMPLE_RATE
from edgewhisper_runtime.errors import AudioError, MissingLibraryError

if TYPE_CHECKING:
    from edgewhisper_runtime.audio import Samples

    Blocks = Generator[bytes, None, None]

_BLOCK = SAMPLE_RATE // 10  # samples
_BLOCK_BYTES = 2 * _BLOCK
_MAX_WAITING = 600  # blocks, a minute
_LAST_BLOCK_SECONDS = 1.0  # a device returns its last block within this time
_CONTAINERS = {b"RIFF": "a WAV file", b"fLaC": "a FLAC file", b"OggS": "an Ogg file"}
_END = b""


class Capture:
    """The samples of one source, until it ends or is stopped. Used once, in a `with` block.

    `name` is the source's name for people; `blocks` are its samples, int16 bytes at 16 kHz. A
    thread reads the blocks, and pauses while a minute of sound waits to be processed: then the
    writer of a pipe has to wait, and a microphone loses sound, which is logged. Where reading
    fails, `error` is the exception; the samples before it are yielded all the same.
    """

    def __init__(self, name: str, blocks: Blocks) -> None:
        self.name = name
        self.error: Exception | None = None
        self._blocks = blocks
        self._waiting: SimpleQueue[bytes] = SimpleQueue()
        self._room = Semaphore(_MAX_WAITING)
        self._closed = Event()
        self._thread = Thread(target=self._read, daemon=True)  # a pipe may stay silent for ever

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._closed.set()
        self._room.release()
        self._thread.join(_LAST_BLOCK_SECONDS)

    def stop(self) -> None:
        """End the samples after those that wait. A signal handler may call it."""
        self._waiting.put(_END)  # SimpleQueue.put is reentrant, as signal handlers need

    def __iter__(self) -> Iterator[Samples]:
        """Yield float32 samples [n] at 16 kHz, each time all the samples that wait."""
        ended = False
        while not ended:
            blocks = [self._waiting.get()]
            while not self._waiting.empty():
                blocks.append(self._waiting.get())
            self._room.release(len(blocks))
            ended = _END in blocks
            if ended:
                del blocks[blocks.index(_END) :]
            if blocks:
                samples = np.frombuffer(b"".join(blocks), dtype="<i2")
                yield samples.astype(np.float32) / np.float32(32768)

    def _read(self) -> None:
        try:
            with closing(self._blocks):
                for block in self._blocks:
                    self._waiting.put(block)
                    self._room.acquire()
                    if self._closed.is_set():
                        return
        except Exception as error:  # noqa: BLE001 # raised where the samples are used
            self.error = error
        finally:
            self._waiting.put(_END)


def stdin() -> Capture:
    """Capture stdin: signed 16-bit little-endian samples, mono, 16 kHz.

    Raises AudioError where stdin is a terminal or closed. The capture's `error` is an AudioError
    where stdin is empty, or a file with a header.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise AudioError(
            "nothing comes through stdin. Pipe samples into it: "
            "arecord -t raw -f S16_LE -r 16000 -c 1 | edgewhisper transcribe --live"
        )
    return Capture("stdin", _read_pipe(sys.stdin.fileno()))


def microphone(device: str | None = None) -> Capture:
    """Capture a microphone: the system's default, or an input by number or part of its name.

    Raises MissingLibraryError without sounddevice or PortAudio, AudioError without such an input.
    """
    try:
        import sounddevice
    except ModuleNotFoundError as error:
        raise MissingLibraryError(
            "listening to a microphone needs sounddevice: pip install 'edgewhisper-runtime[mic]'."
        ) from error
    except OSError as error:
        raise MissingLibraryError(
            "listening to a microphone needs PortAudio, a library of the system: "
            "apt install libportaudio2, dnf install portaudio, or pacman -S portaudio."
        ) from error
    number_or_name = int(device) if device and device.isdecimal() else device
    try:
        name = sounddevice.query_devices(number_or_name, "input")["name"]
        stream = sounddevice.RawInputStream(
            SAMPLE_RATE, _BLOCK, number_or_name, channels=1, dtype="int16", latency="high"
        )
    except (sounddevice.PortAudioError, ValueError) as error:
        raise AudioError(
            f"there is no microphone to listen to ({error}). `python -m sounddevice` lists the "
            "inputs; --input-device names one."
        ) from error
    return Capture(name, _read_stream(stream))


def _read_pipe(descriptor: int) -> Blocks:
    block = b""
    is_first = True
    try:
        while piece := os.read(descriptor, _BLOCK_BYTES - len(block)):
            block += piece
            if len(block) == _BLOCK_BYTES:
                if is_first and block[:4] in _CONTAINERS:
                    raise AudioError(
                        f"stdin is {_CONTAINERS[block[:4]]}, not raw samples. Have it written "
                        "without a header (arecord -t raw, ffmpeg -f s16le), or leave out --live."
                    )
                is_first = False
                yield block
                block = b""
    except OSError as error:
        raise AudioError(f"stdin could not be read ({error.strerror}).") from error
    if len(block) > 1:  # a writer that is killed may leave half a sample
        yield block[: len(block) // 2 * 2]
    elif is_first:
        raise AudioError("stdin is empty. See whether what writes to it works by itself.")


def _read_stream(stream: Any) -> Blocks:
    from sounddevice import PortAudioError

    try:
        with stream:
            while True:
                block, lost = stream.read(_BLOCK)
                if lost:
                    logging.getLogger(__name__).warning(
                        "some of what was said is lost: this machine could not keep up"
                    )
                yield bytes(block)
    except PortAudioError as error:
        raise AudioError(f"the microphone stopped ({error}). Is it still connected?") from error
