"""What else a machine did while something was measured: other work, and throttling."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TOLERANCE = 0.1  # of the processors that a measurement needs: so much other work is normal
_WORK = ("user", "nice", "system", "irq", "softirq", "steal")  # of psutil's times of a processor
_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "soc_thermal", "cpu-thermal")
_FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"  # of a Raspberry Pi
_FIRMWARE_NOW = 0xF  # under-voltage, frequency capped, throttled, soft temperature limit


@dataclass(frozen=True)
class Conditions:
    """The state of the machine during a measurement.

    `seconds` is how long it was watched. `other_processors` is how many processors other processes
    kept busy on average, of the `usable_processors`; the measurement needed `threads` of them.
    `throttled` tells whether the processor lowered its speed to stay cool or within its power. The
    frequency in MHz and the temperature in degrees Celsius are those at the end. None: this system
    does not tell.
    """

    seconds: float
    threads: int
    usable_processors: int
    other_processors: float | None = None
    throttled: bool | None = None
    frequency_mhz: float | None = None
    highest_frequency_mhz: float | None = None
    temperature_celsius: float | None = None

    @property
    def busy(self) -> bool:
        """Whether other work took processors that the measurement needed."""
        if self.other_processors is None:
            return False
        free = self.usable_processors - self.other_processors
        needed = min(self.threads, self.usable_processors)
        return free < needed * (1 - _TOLERANCE)

    @property
    def disturbed(self) -> bool:
        """Whether figures that were measured meanwhile are not those of a quiet, cool machine."""
        return self.busy or bool(self.throttled)

    def __str__(self) -> str:
        """Return what disturbed the measurement, in words."""
        reasons = []
        if self.busy:
            reasons.append(
                f"other work kept {self.other_processors:.1f} of {self.usable_processors} "
                "processors busy"
            )
        if self.throttled:
            reasons.append("the processor was throttled")
        return " and ".join(reasons) or "the machine was quiet"

    def missing(self) -> dict[str, str]:
        """Return why figures are None, by their names."""
        reasons = {
            "other_processors": "this system does not count the time of its processors",
            "throttled": "this system does not tell whether the processor is throttled",
            "frequency_mhz": "this system does not tell the processor's frequency",
            "temperature_celsius": "no sensor of the processor can be read",
        }
        return {name: why for name, why in reasons.items() if getattr(self, name) is None}


class Watch:
    """Counts the work of other processes from the moment it is made.

    The work of this process and of those of its children that have ended is its own.
    """

    def __init__(self, threads: int, root: Path = Path("/")) -> None:
        """Begin; `threads` is how many processors the measurement needs."""
        self._threads, self._root = threads, root
        self._processors = _processors()
        self._began, self._own = time.monotonic(), _own_seconds()
        self._busy = _busy_seconds(self._processors)
        self._throttles = count_throttles(root)

    def conditions(self) -> Conditions:
        """Return the conditions since the watch was made."""
        import psutil

        seconds = max(time.monotonic() - self._began, 1e-9)
        busy, other = _busy_seconds(self._processors), None
        if busy is not None and self._busy is not None:
            others = busy - self._busy - (_own_seconds() - self._own)
            other = max(0.0, others / seconds)
        throttles = count_throttles(self._root)
        throttled = None
        if throttles is not None and self._throttles is not None:
            throttled = throttles > self._throttles or is_throttled(self._root)
        frequency = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
        return Conditions(
            seconds=seconds,
            threads=self._threads,
            usable_processors=len(self._processors),
            other_processors=other,
            throttled=throttled,
            frequency_mhz=frequency.current if frequency else None,
            highest_frequency_mhz=frequency.max or None if frequency else None,
            temperature_celsius=_temperature(),
        )


def count_throttles(root: Path = Path("/")) -> int | None:
    """Return how often Linux counted that a processor was throttled, None if it does not tell.

    Documentation/admin-guide/thermal and the thermal_throttle counters of x86; 0 where only the
    present state is known.
    """
    counters = sorted(
        (root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/*_throttle_count")
    )
    if counters:
        return sum(int(text) for path in counters if (text := _text(path)).isdecimal())
    return 0 if _cooling(root) or (root / _FIRMWARE).exists() else None


def is_throttled(root: Path = Path("/")) -> bool:
    """Return whether a cooling device, or a Raspberry Pi's firmware, slows the processor now.

    Sources: Documentation/driver-api/thermal/sysfs-api.rst (cur_state above 0 cools) and the
    Raspberry Pi documentation of vcgencmd get_throttled (its lowest four bits are the present).
    """
    cooled = any(_text(device / "cur_state").lstrip("0") for device in _cooling(root))
    firmware = _text(root / _FIRMWARE)
    return cooled or bool(firmware and int(firmware, 16) & _FIRMWARE_NOW)


def _cooling(root: Path) -> list[Path]:
    """Return the devices that cool by slowing a processor."""
    return [
        device
        for device in sorted((root / "sys/class/thermal").glob("cooling_device*"))
        if (kind := _text(device / "type")) == "Processor" or "cpufreq" in kind
    ]


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _processors() -> list[int]:
    """Return the numbers of the processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _busy_seconds(processors: list[int]) -> float | None:
    """Return the seconds that processors have worked since the system started."""
    import psutil

    times: list[Any] = psutil.cpu_times(percpu=True)
    if not times or processors[-1] >= len(times):
        return None
    return sum(getattr(times[number], kind, 0.0) for number in processors for kind in _WORK)


def _own_seconds() -> float:
    own = os.times()
    return own.user + own.system + own.children_user + own.children_system


def _temperature() -> float | None:
    """Return the highest temperature of a processor's sensors, in degrees Celsius."""
    import psutil

    if not hasattr(psutil, "sensors_temperatures"):
        return None
    sensors = psutil.sensors_temperatures()
    return max((s.current for name in _SENSORS for s in sensors.get(name, ())), default=None)
