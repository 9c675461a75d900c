"""What cannot be sought in, stdin or a pipe, kept in a temporary file while it is needed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from edgewhisper_runtime.audio.formats import could_be_audio
from edgewhisper_runtime.bundle.atomic import storage_errors
from edgewhisper_runtime.errors import AudioError

LIMIT = 1 << 32  # bytes; a WAV file cannot be larger
_BLOCK = 1 << 20


@contextmanager
def spooled(stream: BinaryIO, label: str) -> Iterator[Path]:
    """Read a stream to its end, and yield a file of its bytes for as long as the block.

    Raises AudioError when it begins as no audio file does or does not end, StorageError when there
    is no room for it.
    """
    with tempfile.TemporaryDirectory(prefix="edgewhisper-") as directory:
        path = Path(directory) / "audio"
        _copy(stream, path, label)
        yield path


def _copy(stream: BinaryIO, path: Path, label: str) -> None:
    left = LIMIT
    with storage_errors(path), path.open("wb") as file:
        while block := stream.read(_BLOCK):
            hopeless = left == LIMIT and len(block) == _BLOCK and not could_be_audio(block)
            left -= len(block)
            if left < 0:
                raise AudioError(f"{label} holds more than {LIMIT >> 20:,} MiB. Save it as files.")
            file.write(block)
            if hopeless:  # a device may have no end; this is enough to say what it is not
                return
