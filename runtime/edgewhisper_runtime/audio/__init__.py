"""Sound: files, the microphone, cutting, features, voice activity."""

from typing import TYPE_CHECKING

from edgewhisper_runtime.audio.files import (
    SAMPLE_RATE,
    blocks,
    checked,
    duration,
    header_seconds,
    label,
    load,
    stream,
)

if TYPE_CHECKING:
    from edgewhisper_runtime.audio.files import Samples as Samples
    from edgewhisper_runtime.audio.files import Source as Source

__all__ = [
    "SAMPLE_RATE",
    "blocks",
    "checked",
    "duration",
    "header_seconds",
    "label",
    "load",
    "stream",
]
