"""What this machine can run and how well; each problem with its remedy."""

from __future__ import annotations

import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from edgewhisper_runtime.errors import NotMeasurableError, amount
from edgewhisper_runtime.measure import machine
from edgewhisper_runtime.measure.conditions import Watch
from edgewhisper_runtime.measure.energy import EnergyMeter

_GLANCE = 0.5  # seconds to look for other work
_NEEDED_MEMORY = 400e6  # bytes: whisper-base in int8 takes about 250 MB, and its audio a few more
_NEEDED_DISK = 1e9  # bytes for the audio of a long pipe
_SLOW_X86 = "without VNNI 8-bit products take two to three times as long; the texts are the same"
_SLOW_ARM = (
    "without dotprod the decoder's 8-bit products run in float32, and the matrix is unpacked for "
    "each token; 4-bit products (onnx-int4) run in float32 with a kernel of their own"
)


@dataclass(frozen=True)
class Finding:
    """A fact about the machine: its name, its value, a note, and the remedy if it is a problem."""

    name: str
    value: str
    note: str = ""
    remedy: str = ""

    @property
    def is_problem(self) -> bool:
        """Whether something should be done about it."""
        return bool(self.remedy)


def examine() -> Iterator[Finding]:
    """Yield what concerns running bundles on this machine."""
    host = machine.describe()
    yield Finding("processor", f"{host.cpu}, {host.architecture}")
    yield arithmetic(host.architecture, host.isa)
    yield platform_support(host.architecture, platform.libc_ver()[0], platform.system())
    yield _cores(host)
    yield _memory(host)
    yield _load(host)
    yield from _sensors()
    yield from libraries("edgewhisper-runtime")
    yield disk("temporary files", Path(tempfile.gettempdir()), "Set TMPDIR to a larger disk.")


def arithmetic(architecture: str, isa: tuple[str, ...]) -> Finding:
    """Return what the instruction sets mean for bundles of 8 and of 4 bits."""
    value = ", ".join(isa) or "none that is known to matter"
    if architecture in {"aarch64", "arm64"}:
        fast = {"asimddp", "i8mm"} & set(isa) or platform.system() == "Darwin"
        note = "8-bit and 4-bit products run in integers" if fast else _SLOW_ARM
    elif architecture in {"x86_64", "AMD64"}:
        fast = {"avx512_vnni", "avx_vnni", "amx_int8"} & set(isa)
        note = "8-bit and 4-bit products run in integers" if fast else _SLOW_X86
    else:
        note = "no measurement of this kind of processor is known"
    return Finding("instruction sets", value, note)


def platform_support(architecture: str, libc: str, system: str) -> Finding:
    """Return whether ONNX Runtime has wheels for a platform."""
    value = f"{system} {architecture}, Python {platform.python_version()}"
    remedy = ""
    if system == "Linux" and libc != "glibc":
        remedy = "ONNX Runtime has no wheels for musl: use a system with glibc (Debian, Fedora)."
    elif architecture.startswith(("armv6", "armv7")):
        remedy = "ONNX Runtime has no wheels for 32-bit ARM: install a 64-bit system."
    return Finding("platform", value, remedy=remedy)


def libraries(distribution: str) -> Iterator[Finding]:
    """Yield a finding for each requirement of a distribution; extras only where installed.

    The bounds are those of the distribution itself: it excludes versions that are known to be bad.
    """
    from packaging.requirements import Requirement

    for line in metadata.requires(distribution) or ():
        requirement = Requirement(line)
        optional = requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            if not optional:
                remedy = f"pip install '{requirement.name}{requirement.specifier}'"
                yield Finding(requirement.name, "not installed", remedy=remedy)
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            yield Finding(
                requirement.name,
                version,
                f"{distribution} needs {requirement.specifier}",
                f"pip install '{requirement.name}{requirement.specifier}'",
            )
        elif not optional:
            yield Finding(requirement.name, version)


def disk(name: str, directory: Path, remedy: str) -> Finding:
    """Return how much room there is in a directory, or in the nearest one above that exists."""
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    value = f"{free / 1e9:.1f} GB free in {directory}"
    return Finding(name, value, remedy=remedy if free < _NEEDED_DISK else "")


def _cores(host: machine.Machine) -> Finding:
    usable, cores = host.usable_cores or 1, host.cores or 1
    note = ""
    if usable < cores:
        note = "CPU affinity or a control group's quota allows no more"
    return Finding("processors", f"{usable} of {cores} may be used", note)


def _memory(host: machine.Machine) -> Finding:
    import psutil

    available, limit = psutil.virtual_memory().available, machine.memory_limit()
    value = f"{host.memory_bytes / 1e9:.1f} GB, {available / 1e9:.1f} GB available"
    note = f"a control group allows {limit / 1e9:.1f} GB" if limit < host.memory_bytes else ""
    remedy = ""
    if min(available, limit) < _NEEDED_MEMORY:
        remedy = "End other programs, raise the limit, or use whisper-tiny: base takes 250 MB."
    return Finding("memory", value, note, remedy)


def _load(host: machine.Machine) -> Finding:
    watch = Watch(host.usable_cores or 1)
    time.sleep(_GLANCE)
    conditions = watch.conditions()
    if conditions.other_processors is None:
        return Finding("other work", "not measurable here")
    value = f"{conditions.other_processors:.1f} of {conditions.usable_processors} processors"
    if conditions.throttled:
        remedy = "Cool the processor and check its power supply: it is throttled."
        return Finding("other work", value, "the processor is throttled", remedy)
    return Finding("other work", value, "figures measured now do not count" * conditions.busy)


def _sensors() -> Iterator[Finding]:
    """Yield which figures of a profile this machine exposes."""
    try:
        EnergyMeter()
    except NotMeasurableError as error:
        yield Finding("energy", "not measurable here", str(error))
    else:
        yield Finding("energy", "measurable (RAPL)")
    missing = Watch(1).conditions().missing()
    for name, figure in (("temperature", "temperature_celsius"), ("throttling", "throttled")):
        yield Finding(name, "not measurable here" if figure in missing else "measurable")


def to_text(findings: list[Finding]) -> str:
    """Return findings as aligned lines, each problem's remedy below it, and a last sentence."""
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        mark = "!" if finding.is_problem else " "
        lines.append(f"{mark} {finding.name:<{width}}  {finding.value}")
        details = (finding.note, finding.remedy and f"remedy: {finding.remedy}")
        lines += [f"  {'':<{width}}  {detail}" for detail in details if detail]
    problems = sum(finding.is_problem for finding in findings)
    count = amount(problems, "problem") if problems else "no problems"
    return "\n".join([*lines, "", f"{count}."])
