"""EdgeWhisper's device side: `load` a bundle, `transcribe` with it. No PyTorch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgewhisper_runtime.loading import load as load

__all__ = ["load"]

# ONNX Runtime's own builds report to their maker from version 1.30 on, and keep an identifier of
# the device for it. Nobody who runs a bundle was asked, so it is off before the library is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> Any:
    if name == "load":
        from edgewhisper_runtime.loading import load

        return load
    raise AttributeError(name)
