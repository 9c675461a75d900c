"""EdgeWhisper's device side: `load` a bundle, `transcribe` with it. No PyTorch."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgewhisper_runtime.bundle import Artefact as Artefact
    from edgewhisper_runtime.bundle import Manifest as Manifest
    from edgewhisper_runtime.errors import AudioError as AudioError
    from edgewhisper_runtime.errors import BundleError as BundleError
    from edgewhisper_runtime.errors import EdgeWhisperError as EdgeWhisperError
    from edgewhisper_runtime.errors import MissingLibraryError as MissingLibraryError
    from edgewhisper_runtime.errors import StorageError as StorageError
    from edgewhisper_runtime.errors import TranscriptError as TranscriptError
    from edgewhisper_runtime.live import Live as Live
    from edgewhisper_runtime.live import Update as Update
    from edgewhisper_runtime.loading import load as load
    from edgewhisper_runtime.loading import verify as verify
    from edgewhisper_runtime.options import Options as Options
    from edgewhisper_runtime.transcriber import Transcriber as Transcriber
    from edgewhisper_runtime.transcript import Segment as Segment
    from edgewhisper_runtime.transcript import Transcript as Transcript
    from edgewhisper_runtime.transcript import Window as Window
    from edgewhisper_runtime.transcript import Word as Word


__version__ = "0.1.0"  # of both distributions

# Imported where they are first used: the command line must answer without NumPy.
_HOMES = {
    "Artefact": "bundle",
    "AudioError": "errors",
    "BundleError": "errors",
    "EdgeWhisperError": "errors",
    "Live": "live",
    "Manifest": "bundle",
    "MissingLibraryError": "errors",
    "Options": "options",
    "Segment": "transcript",
    "StorageError": "errors",
    "Transcriber": "transcriber",
    "Transcript": "transcript",
    "TranscriptError": "errors",
    "Update": "live",
    "Window": "transcript",
    "Word": "transcript",
    "load": "loading",
    "verify": "loading",
}
__all__ = [
    "Artefact",
    "AudioError",
    "BundleError",
    "EdgeWhisperError",
    "Live",
    "Manifest",
    "MissingLibraryError",
    "Options",
    "Segment",
    "StorageError",
    "Transcriber",
    "Transcript",
    "TranscriptError",
    "Update",
    "Window",
    "Word",
    "__version__",
    "load",
    "verify",
]

# ONNX Runtime's own builds report to their maker from version 1.30 on, and keep an identifier of
# the device for it. Nobody who runs a bundle was asked, so it is off before the library is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(import_module(f"edgewhisper_runtime.{_HOMES[name]}"), name)
