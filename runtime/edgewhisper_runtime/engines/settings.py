"""The settings of a manifest against the model that an engine has opened."""

from __future__ import annotations

from pathlib import Path

from edgewhisper_runtime.bundle import Settings
from edgewhisper_runtime.decode import alignment
from edgewhisper_runtime.errors import BundleError


def check(
    directory: Path,
    settings: Settings,
    *,
    mels: int,
    room: int,
    vocabulary: int,
    layers: int,
    heads: int,
) -> None:
    """Raise BundleError where the settings of a bundle do not fit a model of these sizes.

    `room` is the number of the decoder's positions, `layers` that of its layers, `heads` that of
    the heads of each.
    """
    ids = (*settings.suppress, *settings.suppress_first)
    if (
        settings.mels != mels
        or settings.max_tokens > room
        or not all(0 <= i < vocabulary for i in ids)
    ):
        raise BundleError(
            f"{directory}: the manifest's settings do not fit its model. Build again."
        )
    if settings.alignment_heads:
        alignment.check(settings.alignment_heads, layers, heads)
