"""What the container may use: CPUs and memory.

`os.cpu_count()` tells the CPUs of the node: with a limit of one CPU on a 64-core node
it would start 64 threads that throttle each other.
"""

import math
import os
from contextlib import suppress
from pathlib import Path

# Where a container finds its own cgroup.
CGROUP = Path("/sys/fs/cgroup")


def cpu_limit(cgroup: Path = CGROUP) -> float:
    """The smaller of the affinity mask and the cgroup's quota, in CPUs: 0.5 is half."""
    try:
        affinity = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        affinity = os.cpu_count() or 1
    try:
        quota, period = map(
            int,
            _read(cgroup, "cpu.max", "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"),
        )
    except ValueError:  # "max", or nothing to read
        return affinity
    return min(affinity, quota / period) if quota > 0 else affinity


def usable_cpus(cgroup: Path = CGROUP) -> int:
    """How many threads can work at once: the limit, rounded up."""
    return max(1, math.ceil(cpu_limit(cgroup)))


def memory_limit(cgroup: Path = CGROUP) -> float:
    """The smaller of the cgroup's limit and the machine's memory, in bytes.

    NaN where the system does not tell.
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
    """The words of a limit, from its file or the files of cgroups version 1."""
    for names in ([version_2], version_1):
        with suppress(OSError):
            files = [(cgroup / name).read_text(encoding="ascii") for name in names]
            return " ".join(files).split()
    return []
