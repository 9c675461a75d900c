"""Where EdgeWhisper keeps what it fetches and builds."""

from __future__ import annotations

import os
from pathlib import Path

from edgewhisper_runtime.bundle import atomic
from edgewhisper_runtime.errors import StorageError

_PACKAGED_CARDS = Path(__file__).parent / "models"
_CHECKOUT_MODELS = Path(__file__).resolve().parent.parent / "models"


def cards() -> Path:
    """Return the directory of model cards: in the package, or in a source checkout."""
    return _PACKAGED_CARDS if _PACKAGED_CARDS.is_dir() else _CHECKOUT_MODELS


def home() -> Path:
    """Return the directory for checkpoints, variants, evaluations and bundles.

    EDGEWHISPER_HOME; else models/ of a source checkout; else ~/.cache/edgewhisper.
    Raises StorageError for a user without a home.
    """
    if configured := os.environ.get("EDGEWHISPER_HOME"):
        return Path(configured)
    if not _PACKAGED_CARDS.is_dir():
        return _CHECKOUT_MODELS
    try:
        return Path.home() / ".cache" / "edgewhisper"
    except RuntimeError as error:  # a container's user: no HOME, and no entry in /etc/passwd
        raise StorageError(
            "this user has no home directory to keep models and bundles in. Set EDGEWHISPER_HOME "
            "to a directory that may be written."
        ) from error


def remember_bundle(bundle: Path) -> None:
    """Make this bundle the default of `edgewhisper transcribe`."""
    atomic.write_text(home() / "latest-bundle", str(bundle.resolve()))


def latest_bundle() -> Path | None:
    """Return the bundle built last, if it still exists."""
    pointer = home() / "latest-bundle"
    if not pointer.is_file():
        return None
    bundle = Path(pointer.read_text(encoding="utf-8").strip())
    return bundle if bundle.is_dir() else None
