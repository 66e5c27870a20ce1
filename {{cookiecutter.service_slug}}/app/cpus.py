"""How many CPUs the container may use.

`os.cpu_count()` tells those of the node: with a limit of one CPU on a 64-core node it
would start 64 threads that throttle each other.
"""

import math
import os
from pathlib import Path

# Relative to the root of cgroup v2; "max" means no limit.
CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def usable_cpus(cpu_max: Path = CPU_MAX) -> int:
    """The smaller of the affinity mask and the cgroup's CPU quota, at least 1."""
    try:
        affinity = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        affinity = os.cpu_count() or 1
    try:
        quota, period = cpu_max.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return affinity
    if quota == "max":
        return affinity
    return max(1, min(affinity, math.ceil(int(quota) / int(period))))
