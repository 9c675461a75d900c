"""The machine that a number was measured on: processor, memory, libraries and their size."""

from __future__ import annotations

import math
import os
import platform
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Annotated

from edgewhisper_runtime.bundle.fields import between
from edgewhisper_runtime.measure import processor

_NO_LIMIT = 2**60  # bytes, of a memory limit that is none
_SPINNING = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Machine:
    """What figures were measured on; memory in bytes, `environment`: what decides about threads."""

    cpu: str
    isa: tuple[str, ...]
    architecture: str
    cores: int | None
    usable_cores: int | None
    memory_bytes: Annotated[int, between(0, 2**60)]
    system: str
    python: str
    environment: dict[str, str] = field(default_factory=dict)


def describe() -> Machine:
    """Return the machine that this runs on."""
    import psutil

    described = processor.describe()
    return Machine(
        cpu=described.name,
        isa=described.isa,
        architecture=platform.machine(),
        cores=os.cpu_count(),
        usable_cores=usable_cores(),
        memory_bytes=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        environment={name: os.environ[name] for name in _SPINNING if name in os.environ},
    )


def usable_cores() -> int:
    """Return how many processors this process may use, at least 1: the default number of threads.

    The processors of its CPU affinity (taskset, cpusets), but no more than the CPU quota of its
    control groups (`docker --cpus`, a Kubernetes limit), rounded up.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, math.ceil(min(cores, cpu_quota())))


def cpu_quota(root: Path = Path("/")) -> float:
    """Return how many processors' time Linux control groups grant; infinity without a limit.

    Sources: Documentation/admin-guide/cgroup-v2.rst (cpu.max), scheduler/sched-bwc.rst (version 1).
    """
    return min(map(_quota_of, _groups(root, "cpu")), default=math.inf)


def memory_limit(root: Path = Path("/")) -> float:
    """Return how many bytes Linux control groups grant; infinity without a limit.

    Sources: cgroup-v2.rst (memory.max) and cgroup-v1/memory.rst (memory.limit_in_bytes, a huge
    number where there is no limit).
    """
    return min(map(_memory_of, _groups(root, "memory")), default=math.inf)


def _groups(root: Path, controller: str) -> list[Path]:
    """Return the directories of this process's control group and of all above, whose limits hold.

    A container may see its groups' names but not their directories: then its own is the root of
    what it sees.
    """
    mounted = root / "sys/fs/cgroup"
    groups: list[Path] = []
    try:
        memberships = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return groups
    for line in memberships:
        _, controllers, own = line.split(":", 2)
        if controllers == "":
            tree = mounted
        elif controller in controllers.split(","):
            tree = mounted / controller
        else:
            continue
        place = tree / own.strip("/")
        groups += [group for group in (place, *place.parents) if group.is_relative_to(tree)]
    return groups


def _memory_of(group: Path) -> float:
    for name in ("memory.max", "memory.limit_in_bytes"):
        try:
            limit = (group / name).read_text().strip()
            return math.inf if limit == "max" or int(limit) >= _NO_LIMIT else int(limit)
        except (OSError, ValueError):
            continue
    return math.inf


def _quota_of(group: Path) -> float:
    try:
        if (both := group / "cpu.max").exists():
            quota, period = both.read_text().split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu.cfs_period_us").read_text()
        return math.inf if quota == "max" or int(quota) <= 0 else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def peak_rss() -> int:
    """Return the largest resident set of this process so far, in bytes.

    On Linux from VmHWM: ru_maxrss would include the parent's size at the time of the fork.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def versions(names: Iterable[str]) -> dict[str, str]:
    """Return the installed version of each distribution that is installed."""
    installed = {}
    for name in names:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def closure(root: str, extras: Iterable[str] = ()) -> dict[str, int]:
    """Return the installed size in bytes of a distribution and of all that it requires."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    sizes: dict[str, int] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(canonicalize_name(root), extra) for extra in ("", *extras)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # an optional requirement of another platform
        if name not in sizes:
            sizes[name] = sum(
                size for file in distribution.files or () if (size := _size(file.locate()))
            )
        for line in distribution.requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                needed = canonicalize_name(requirement.name)
                waiting += [(needed, requested) for requested in ("", *requirement.extras)]
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def _size(path: object) -> int:
    try:
        return Path(str(path)).stat().st_size
    except OSError:
        return 0
