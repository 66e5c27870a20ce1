"""What the container may use: CPUs and memory.

`os.cpu_count()` tells the CPUs of the node: with a limit of one CPU on a 64-core node
it would start 64 threads that throttle each other.
"""

import math
import os
from pathlib import Path

# Relative to the root of cgroup v2; "max" means no limit.
CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
MEMORY_MAX = Path("/sys/fs/cgroup/memory.max")


def cpu_limit(cpu_max: Path = CPU_MAX) -> float:
    """The smaller of the affinity mask and the cgroup's quota, in CPUs: 0.5 is half."""
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
    return min(affinity, int(quota) / int(period))


def usable_cpus(cpu_max: Path = CPU_MAX) -> int:
    """How many threads can work at once: the limit, rounded up."""
    return max(1, math.ceil(cpu_limit(cpu_max)))


def memory_limit(memory_max: Path = MEMORY_MAX) -> float:
    """The smaller of the cgroup's limit and the machine's memory, in bytes.

    NaN where the system does not tell.
    """
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):  # not on Windows
        return math.nan
    try:
        return min(machine, int(memory_max.read_text(encoding="ascii")))
    except (OSError, ValueError):
        return machine
