"""Read the CPU and memory limits of the container.

`os.cpu_count()` returns the CPUs of the node. In a container with one CPU on a node of
64, that would mean 64 threads that throttle each other.
"""

import math
import os
from contextlib import suppress
from pathlib import Path

# Where a container sees its own cgroup.
CGROUP = Path("/sys/fs/cgroup")


def cpu_limit(cgroup: Path = CGROUP) -> float:
    """Return the CPU limit, such as 0.5: the smaller of affinity and cgroup quota."""
    try:
        affinity = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        affinity = os.cpu_count() or 1
    try:
        quota, period = map(
            int,
            _read(cgroup, "cpu.max", "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"),
        )
    except ValueError:  # "max", or no such file
        return affinity
    return min(affinity, quota / period) if quota > 0 else affinity


def usable_cpus(cgroup: Path = CGROUP) -> int:
    """Return how many threads can run at once: the CPU limit, rounded up."""
    return max(1, math.ceil(cpu_limit(cgroup)))


def memory_limit(cgroup: Path = CGROUP) -> float:
    """Return the smaller of cgroup limit and machine memory, in bytes.

    Return NaN if the system does not report its memory.
    """
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):  # not on Windows
        return math.nan
    try:
        (limit,) = map(int, _read(cgroup, "memory.max", "memory/memory.limit_in_bytes"))
    except ValueError:
        return machine
    return min(machine, limit)


def _read(cgroup: Path, version_2: str, *version_1: str) -> list[str]:
    """Return the words of a limit file of cgroups version 2, else of version 1."""
    for names in ([version_2], version_1):
        with suppress(OSError):
            files = [(cgroup / name).read_text(encoding="ascii") for name in names]
            return " ".join(files).split()
    return []
