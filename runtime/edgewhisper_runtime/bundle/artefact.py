"""A bundle's directory and its manifest, together from the moment they were verified."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgewhisper_runtime.bundle.manifest import Manifest, verify


@dataclass(frozen=True)
class Artefact:
    """A bundle, a variant or an export on disk, and its manifest.

    Whoever holds one need not verify the directory again: it was verified, or has just been
    written.
    """

    path: Path
    manifest: Manifest

    @classmethod
    def verified(cls, path: Path) -> Artefact:
        """Verify a directory, hashing every file; raise BundleError where it is not intact."""
        return cls(path, verify(path))
