"""What else a machine does during a measurement: other work, throttling, energy."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgewhisper_runtime.errors import NotMeasurableError
from edgewhisper_runtime.measure import conditions
from edgewhisper_runtime.measure.conditions import Conditions, Watch
from edgewhisper_runtime.measure.energy import EnergyMeter
from machines import lay, other_work

COOLING = "sys/class/thermal/cooling_device0"
FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"
COUNT = "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
RAPL = "sys/class/powercap/intel-rapl:0"


def test_other_work_is_seen() -> None:
    with other_work():
        watch = Watch(os.cpu_count() or 1)
        time.sleep(1)
        seen = watch.conditions()
    assert seen.busy
    assert seen.disturbed
    assert "processors busy" in str(seen)


def test_ones_own_work_is_not_other_work() -> None:
    """Neither that of this process nor of a child that has ended, beside whatever else runs."""
    began, watch = time.process_time(), Watch(1)
    while time.process_time() - began < 0.5:
        pass
    subprocess.run([sys.executable, "-c", "for _ in range(10**7): pass"], check=True)
    seen = watch.conditions()
    assert seen.other_processors is not None
    assert seen.other_processors < seen.usable_processors - 0.5 / seen.seconds


@pytest.mark.parametrize(
    ("threads", "other", "busy"),
    [
        (4, 0.3, False),
        (4, 0.5, True),
        (2, 1.9, False),
        (2, 3.0, True),
        (4, None, False),
        (8, 0.0, False),
        (8, 0.5, True),
    ],
)
def test_busy_is_other_work_on_processors_that_were_needed(
    threads: int, other: float | None, busy: bool
) -> None:
    assert Conditions(1.0, threads, 4, other).busy == busy


@pytest.mark.parametrize(
    ("files", "throttled"),
    [
        ({f"{COOLING}/type": "Processor\n", f"{COOLING}/cur_state": "0\n"}, False),
        ({f"{COOLING}/type": "cpufreq-cpu0\n", f"{COOLING}/cur_state": "3\n"}, True),
        ({f"{COOLING}/type": "pwm-fan\n", f"{COOLING}/cur_state": "3\n"}, None),
        ({FIRMWARE: "0\n"}, False),
        ({FIRMWARE: "50000\n"}, False),  # it was throttled some time since the start
        ({FIRMWARE: "50005\n"}, True),
        ({}, None),
    ],
)
def test_throttling_is_read_from_the_system(
    tmp_path: Path, files: dict[str, str], throttled: bool | None
) -> None:
    seen = Watch(1, lay(tmp_path, files)).conditions()
    assert seen.throttled == throttled
    assert ("throttled" in seen.missing()) == (throttled is None)


def test_a_counter_of_throttling_that_grows_is_seen(tmp_path: Path) -> None:
    watch = Watch(1, lay(tmp_path, {COUNT: "7\n"}))
    assert watch.conditions().throttled is False
    lay(tmp_path, {COUNT: "8\n"})
    assert watch.conditions().throttled is True
    assert conditions.count_throttles(tmp_path) == 8


def test_energy_is_that_of_all_packages_and_outlives_a_counter(tmp_path: Path) -> None:
    files = {
        f"{RAPL}/name": "package-0\n",
        f"{RAPL}/energy_uj": "9000000\n",
        f"{RAPL}/max_energy_range_uj": "10000000\n",
        f"{RAPL}:0/name": "core\n",
        f"{RAPL}:0/energy_uj": "1\n",
        f"{RAPL[:-1]}1/name": "package-1\n",
        f"{RAPL[:-1]}1/energy_uj": "500000\n",
    }
    meter = EnergyMeter(lay(tmp_path, files))
    lay(tmp_path, {f"{RAPL}/energy_uj": "2000000\n", f"{RAPL[:-1]}1/energy_uj": "1500000\n"})
    assert meter.joules() == pytest.approx(3 + 1)


def test_energy_that_is_not_exposed_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(NotMeasurableError, match="exposes no counters of energy"):
        EnergyMeter(tmp_path)
    lay(tmp_path, {f"{RAPL}/name": "package-0\n"})
    (tmp_path / RAPL / "energy_uj").mkdir()
    with pytest.raises(NotMeasurableError, match="cannot be read"):
        EnergyMeter(tmp_path)
