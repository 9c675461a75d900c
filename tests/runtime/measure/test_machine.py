"""How many processors a process may use: affinity and control groups' quotas."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgewhisper_runtime.measure import machine
from machines import lay

COUNT = """
import os, json
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from edgewhisper_runtime.engines.onnx_session import session_options
from edgewhisper_runtime.measure import machine
options = session_options(None)
print(json.dumps([machine.describe().usable_cores, options.intra_op_num_threads]))
"""


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, math.inf),
        ({"proc/self/cgroup": "0::/\n"}, math.inf),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, math.inf),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        (
            {
                "proc/self/cgroup": "0::/pod/container\n",
                "sys/fs/cgroup/pod/cpu.max": "200000 100000\n",
                "sys/fs/cgroup/pod/container/cpu.max": "max 100000\n",
            },
            2,
        ),
        # the names of the host, the directories of the container
        (
            {
                "proc/self/cgroup": "0::/docker/0123456789ab\n",
                "sys/fs/cgroup/cpu.max": "50000 100000\n",
            },
            0.5,
        ),
        (
            {
                "proc/self/cgroup": "5:memory:/x\n4:cpu,cpuacct:/docker/01\n0::/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            math.inf,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "?\n"}, math.inf),
    ],
)
def test_a_quota_is_the_least_of_all_groups(
    tmp_path: Path, files: dict[str, str], quota: float
) -> None:
    assert machine.cpu_quota(lay(tmp_path, files)) == quota


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_threads_are_those_that_affinity_allows() -> None:
    counted = subprocess.run(
        [sys.executable, "-c", COUNT], capture_output=True, text=True, check=True
    )
    assert json.loads(counted.stdout) == [1, 1]


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, math.inf),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n"}, math.inf),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/memory.max": "536870912\n"}, 2**29),
        (
            {
                "proc/self/cgroup": "4:memory:/a\n1:cpu:/a\n",
                "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "1073741824\n",
            },
            2**30,
        ),
    ],
)
def test_a_limit_of_memory_is_the_least_of_all_groups(
    tmp_path: Path, files: dict[str, str], limit: float
) -> None:
    assert machine.memory_limit(lay(tmp_path, files)) == limit


def test_at_least_one_core_is_usable() -> None:
    assert 1 <= machine.usable_cores() <= (os.cpu_count() or 1)
