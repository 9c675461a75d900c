"""EdgeWhisper's device side: `load` a bundle, `transcribe` with it. No PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgewhisper_runtime.loading import load as load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    if name == "load":
        from edgewhisper_runtime.loading import load

        return load
    raise AttributeError(name)
