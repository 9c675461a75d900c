"""The platforms that all of the runtime's dependencies have wheels for, and why others are not."""

from __future__ import annotations

from dataclasses import dataclass

from edgewhisper_runtime.errors import DeviceError, suggest

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
OLDEST_GLIBC = (2, 28)  # of NumPy's and ONNX Runtime's wheels


@dataclass(frozen=True)
class Platform:
    """A system and a processor, named in each of the ways that a package needs.

    `tags` are platform tags of wheels, best first (packaging.python.org, "Platform compatibility
    tags"); `system` and `machine` are what Python's `platform` module returns there;
    `architecture` is the processor in the words of Debian and of OCI images.
    """

    name: str
    tags: tuple[str, ...]
    system: str
    machine: str
    architecture: str

    def markers(self, python: str) -> dict[str, str]:
        """Return the environment markers of PEP 508 on this platform, for a Python such as 3.11."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{python}.0",
            "os_name": "nt" if self.system == "Windows" else "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": self.system,
            "platform_version": "",
            "python_full_version": f"{python}.0",
            "python_version": python,
            "sys_platform": {"Linux": "linux", "Darwin": "darwin", "Windows": "win32"}[self.system],
        }


def _manylinux(machine: str, oldest: int) -> tuple[str, ...]:
    """Return the tags of glibc 2.28 down to 2.`oldest`, the first with wheels of the processor."""
    major, minor = OLDEST_GLIBC
    tags = [f"manylinux_{major}_{each}_{machine}" for each in range(minor, oldest - 1, -1)]
    return (*tags, f"manylinux2014_{machine}")


PLATFORMS = {
    platform.name: platform
    for platform in (
        Platform("linux-aarch64", _manylinux("aarch64", 17), "Linux", "aarch64", "arm64"),
        Platform("linux-x86_64", _manylinux("x86_64", 5), "Linux", "x86_64", "amd64"),
        Platform("macos-arm64", ("macosx_14_0_arm64",), "Darwin", "arm64", "arm64"),
        Platform("windows-x86_64", ("win_amd64",), "Windows", "AMD64", "amd64"),
    )
}
_NO_MUSL = "ONNX Runtime has no wheels for musl (Alpine Linux). Use a system with glibc"
_NO_32_BIT = "NumPy and ONNX Runtime have no wheels for 32-bit ARM. Use a 64-bit system"
WITHOUT_WHEELS = {
    "linux-musl-aarch64": _NO_MUSL,
    "linux-musl-x86_64": _NO_MUSL,
    "linux-armv6l": _NO_32_BIT,
    "linux-armv7l": _NO_32_BIT,
    "macos-x86_64": "ONNX Runtime has no recent wheels for Intel Macs. Use a Mac with Apple's M1 "
    "or later",
    "windows-arm64": "soxr has no wheels for Windows on ARM. Use Python for x86-64, which Windows "
    "emulates, and windows-x86_64",
}


def find(name: str) -> Platform:
    """Return the platform of a name; raise DeviceError with the reason where there is none."""
    if name in PLATFORMS:
        return PLATFORMS[name]
    reason = WITHOUT_WHEELS.get(name, "it is not a platform known here")
    hint = "" if name in WITHOUT_WHEELS else suggest(name, PLATFORMS)
    raise DeviceError(
        f"no package can be made for {name}: {reason}. Known: {', '.join(PLATFORMS)}. "
        f"{hint}".rstrip()
    )


def of_device(system: str, machine: str, libc: str) -> Platform:
    """Return the platform of a device by what Python's `platform` module said on it.

    `libc` is such as "glibc 2.36", empty where it is another one. Raises DeviceError where there
    is no platform for it.
    """
    for platform in PLATFORMS.values():
        if (platform.system, platform.machine) == (system, machine):
            if system == "Linux" and not libc.startswith("glibc"):
                return find(f"linux-musl-{machine}")
            return platform
    prefix = {"Linux": "linux", "Darwin": "macos", "Windows": "windows"}.get(system, system)
    return find(f"{prefix}-{machine}")
