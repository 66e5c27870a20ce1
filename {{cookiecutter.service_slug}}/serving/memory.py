"""Give freed memory back to the system."""

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path

if sys.platform != "win32":
    import resource

# An idle process keeps at most this many bytes of freed memory.
SPARE_BYTES = 33_554_432
STATM = Path("/proc/self/statm")


class Memory:
    """Give freed memory back to the system, on Linux with glibc.

    glibc keeps what is freed between blocks that are in use: after 64 large bodies at
    once, a hundred megabytes. Giving it back takes some milliseconds.
    """

    def __init__(self) -> None:
        self._least = 0  # resident bytes after the last trim
        self._trim = find_trim()

    def give_back(self) -> None:
        """Give memory back if much more is resident than after the last trim."""
        if self._trim and resident_bytes() > self._least + SPARE_BYTES:
            self._trim(0)
            self._least = resident_bytes()


def find_trim() -> Callable[[int], int] | None:
    """Return glibc's `malloc_trim`, or None on another system."""
    try:
        return ctypes.CDLL(None).malloc_trim if STATM.exists() else None
    except (AttributeError, OSError):
        return None


def resident_bytes() -> int:
    """Return the bytes of memory that the process takes; 0 if they cannot be read."""
    try:
        pages = STATM.read_text(encoding="ascii").split()[1]
    except OSError:  # no descriptor is left
        return 0
    return int(pages) * resource.getpagesize()
