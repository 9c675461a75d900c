"""The wheels of the runtime and of all that it requires, for another platform and Python."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterable, Sequence
from email.message import Message
from email.parser import Parser
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from edgewhisper.devices.platforms import Platform
from edgewhisper_runtime.errors import DeviceError, NetworkError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

RUNTIME = "edgewhisper-runtime"


def collect(
    runtime: Path,
    platform: Platform,
    python: str,
    directory: Path,
    extras: Sequence[str] = (),
    versions: dict[str, str] | None = None,
) -> list[Path]:
    """Download what the runtime's wheel requires into `directory`; return all wheels, sorted.

    A requirement gets its version in `versions`, else the one installed here, else the newest one
    that is allowed. pip takes the markers of the interpreter that it runs on, whatever its
    --platform (https://github.com/pypa/pip/issues/11664), so requirements are followed here, with
    the platform's markers, and pip only downloads. Raises DeviceError where there is no wheel,
    NetworkError where the index cannot be reached.
    """
    from packaging.utils import canonicalize_name

    if unknown := set(extras) - set(_metadata(runtime).get_all("Provides-Extra", ())):
        raise DeviceError(f"{runtime.name} has no extra named {', '.join(sorted(unknown))}.")
    wheels = {RUNTIME: runtime}
    pending: set[tuple[str, str]] = {(RUNTIME, extra) for extra in ("", *extras)}
    followed: set[tuple[str, str]] = set()
    while pending:
        needed = [
            requirement
            for name, extra in sorted(pending)
            for requirement in _requirements(
                wheels[name], {**platform.markers(python), "extra": extra}
            )
        ]
        missing = [each for each in needed if canonicalize_name(each.name) not in wheels]
        pinned = sorted({_pinned(each, versions or {}) for each in missing})
        wheels |= _download(pinned, platform, python, directory)
        _check_versions(needed, wheels)
        followed |= pending
        pending = {
            (str(canonicalize_name(each.name)), extra)
            for each in needed
            for extra in ("", *each.extras)
        } - followed
    return sorted(wheels.values(), key=lambda path: path.name.lower())


def _metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode(), headersonly=True)


def _requirements(wheel: Path, markers: dict[str, str]) -> list[Requirement]:
    from packaging.requirements import Requirement

    requirements = map(Requirement, _metadata(wheel).get_all("Requires-Dist", ()))
    return [each for each in requirements if each.marker is None or each.marker.evaluate(markers)]


def _pinned(requirement: Requirement, versions: dict[str, str]) -> str:
    """Return a requirement of one version, or as it is where no version is known for it."""
    version = versions.get(requirement.name)
    if version is None:
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:  # only another platform needs it
            version = None
    if version is None or not requirement.specifier.contains(version, prereleases=True):
        return f"{requirement.name}{requirement.specifier}"
    return f"{requirement.name}=={version}"


def _download(
    requirements: Sequence[str], platform: Platform, python: str, directory: Path
) -> dict[str, Path]:
    """Return the wheels of requirements by name, without what these require."""
    from packaging.utils import parse_wheel_filename

    if not requirements:
        return {}
    before = set(directory.glob("*.whl"))
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(directory)]
    command += ["--implementation", "cp", "--python-version", python]
    command += [option for tag in platform.tags for option in ("--platform", tag)]
    result = subprocess.run(
        [*command, *requirements],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise _error(result.stderr, platform, python)
    new = set(directory.glob("*.whl")) - before
    return {str(parse_wheel_filename(path.name)[0]): path for path in new}


def _error(messages: str, platform: Platform, python: str) -> DeviceError | NetworkError:
    lines = [line for line in messages.splitlines() if line.startswith("ERROR: ")]
    reason = lines[0].removeprefix("ERROR: ") if lines else messages.strip() or "pip gave no reason"
    if "Retrying (" in messages:
        return NetworkError(
            "the wheels could not be downloaded: the package index cannot be reached "
            f"({reason}). Check the connection, and pip's settings (pip config list)."
        )
    return DeviceError(
        f"a wheel for {platform.name} and Python {python} is missing: {reason}. "
        "Choose another --python, or install here a version that has one."
    )


def _check_versions(requirements: Iterable[Requirement], wheels: dict[str, Path]) -> None:
    from packaging.utils import canonicalize_name, parse_wheel_filename

    for requirement in requirements:
        wheel = wheels[canonicalize_name(requirement.name)]
        version = parse_wheel_filename(wheel.name)[1]
        if not requirement.specifier.contains(version, prereleases=True):
            raise DeviceError(
                f"{wheel.name} is not {requirement}, which another package requires. "
                "Install versions that fit together here (pip check), and try again."
            )
