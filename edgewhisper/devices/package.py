"""One file that brings a bundle to a device without internet, in one of four formats."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from edgewhisper.devices import contents, debian, oci, platforms, zips
from edgewhisper.devices.contents import Contents
from edgewhisper_runtime.bundle import Artefact, atomic
from edgewhisper_runtime.errors import DeviceError

_log = logging.getLogger(__name__)
SUFFIXES = {"zip": ".zip", "zipapp": ".pyz", "deb": ".deb", "oci": ".oci.tar"}
_OF_LINUX = {"deb", "oci"}


def write(
    bundle: Path,
    platform_name: str,
    to_format: str,
    python: str = platforms.PYTHONS[0],
    *,
    extras: Sequence[str] = (),
    base: Path | None = None,
    output: Path | None = None,
) -> Path:
    """Write a package of a bundle for a platform such as "linux-aarch64"; return its path.

    `to_format` is a key of SUFFIXES, `base` what an image is built on (`oci.write_oci`), `extras`
    are the runtime's, such as "media". The default `output` is in the working directory. Raises
    DeviceError where there are no wheels for the platform, BundleError for a bundle that is not
    intact, and what `contents.gather` raises.
    """
    platform = platforms.find(platform_name)
    if to_format in _OF_LINUX and platform.system != "Linux":
        raise DeviceError(
            f"{to_format} is a format of Linux. Use zip or zipapp for {platform_name}."
        )
    if to_format == "oci" and base is None:
        raise DeviceError(f"an image needs a base with Python {python} (--base). {oci.GET_BASE}.")
    if to_format != "oci" and base is not None:
        raise DeviceError(f"a {to_format} file is built on no base: leave it out (--base).")
    artefact = Artefact.verified(bundle)
    stem = f"{artefact.manifest.name}-{platform.name}-python{python}"
    target = output or Path(f"{stem}{SUFFIXES[to_format]}")
    with contents.gather(artefact, platform, python, extras) as gathered:
        _log.info("writing %s", target)
        _write_whole(target, _writer(to_format, base), gathered)
    return target


def _writer(to_format: str, base: Path | None) -> Callable[[Contents, Path], None]:
    if to_format == "oci" and base is not None:
        return lambda gathered, path: oci.write_oci(gathered, path, base)
    return {"zip": zips.write_zip, "zipapp": zips.write_zipapp, "deb": debian.write_deb}[to_format]


def _write_whole(
    target: Path, writer: Callable[[Contents, Path], None], gathered: Contents
) -> None:
    """Write the target through a temporary file beside it, so that it is whole or absent."""
    with atomic.storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{secrets.token_hex(8)}")
        try:
            writer(gathered, beside)
            with beside.open("rb+") as file:
                os.fsync(file.fileno())
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)
