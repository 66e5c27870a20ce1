"""Load the default service at 80 % of its peak for minutes, and see that nothing grows.

The load comes in slices. After each, when its connections are closed, memory and open
files are read: what is still there was kept by the service.
"""

import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.generated import BODY, python, served, trained
from benchmarks.load import (
    OK,
    arrivals,
    closed_loop,
    load_core,
    open_loop,
    port_of,
    request,
)
from benchmarks.results import Soaked, versions
from benchmarks.serving import Server, open_files, resident_bytes

SHARE = 0.8  # of the peak
CONNECTIONS = 64
SLICE = 5.0  # seconds
SLICES = 10  # at least
MIB = 2**20
# Memory may rise along its trend by this and three times its scatter.
ALLOWED = 4 * MIB
# A slice leaves nothing open; one file may still be about to close.
ALLOWED_FILES = 2


@dataclass(frozen=True)
class Sample:
    """What was read after a slice: seconds since the start, p99, bytes, open files."""

    time: float
    p99: float
    memory: int
    files: int


@dataclass(frozen=True)
class Trend:
    """The line of least squares through the memory, in bytes: its rise and scatter."""

    rise: float
    scatter: float

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> "Trend":
        """Fit the trend of two samples or more."""
        times = [sample.time for sample in samples]
        memory = [float(sample.memory) for sample in samples]
        slope, start = statistics.linear_regression(times, memory)
        rest = [m - start - slope * t for t, m in zip(times, memory, strict=True)]
        return cls(slope * (times[-1] - times[0]), statistics.pstdev(rest))

    @property
    def grows(self) -> bool:
        """Whether it rises by more than the allocator and chance explain."""
        return self.rise > ALLOWED + 3 * self.scatter


def measure(minutes: float = 10) -> dict[str, object]:
    """Soak a fresh service for so many minutes."""
    with trained() as service:
        with served(service) as server:
            measured = soak(server, minutes)
        return {
            "versions": versions(python(service), "fastapi", "onnxruntime", "uvicorn"),
            **measured,
        }


def soak(server: Server, minutes: float) -> Soaked:
    """Load a server and return what was seen, with all faults."""
    seconds = 60 * minutes
    length = min(SLICE, seconds / SLICES)
    port, requests = port_of(server), [request(BODY.encode())]
    samples: list[Sample] = []
    statuses: Counter[int] = Counter()
    with load_core():
        rate = SHARE * closed_loop(port, requests, CONNECTIONS, length).rate
        start = time.monotonic()
        while time.monotonic() < start + seconds:
            due = arrivals(rate, length)
            result = open_loop(port, requests, CONNECTIONS, due)
            time.sleep(0.1)  # until the server sees that the connections are closed
            statuses += result.statuses()
            samples.append(
                Sample(
                    time.monotonic() - start,
                    result.quantile(0.99),
                    resident_bytes(server.pid),
                    open_files(server.pid),
                )
            )
    trend = Trend.of(samples)
    return {
        "minutes": minutes,
        "rate": round(rate, 1),
        "statuses": {str(status): count for status, count in statuses.items()},
        "p99": round(statistics.median(sample.p99 for sample in samples), 6),
        "worst_p99": round(max(sample.p99 for sample in samples), 6),
        "memory": [samples[0].memory, samples[-1].memory],
        "rise": round(trend.rise),
        "scatter": round(trend.scatter),
        "open_files": [samples[0].files, samples[-1].files],
        "faults": find_faults(samples, trend, statuses),
    }


def find_faults(
    samples: Sequence[Sample], trend: Trend, statuses: Counter[int]
) -> list[str]:
    """Return what is wrong: a request without a prediction, or something that grows."""
    faults = []
    if set(statuses) != {OK}:
        counts = ", ".join(f"{status}: {n:,}" for status, n in sorted(statuses.items()))
        faults.append(f"Not every request got a prediction; by status, {counts}.")
    more = samples[-1].files - samples[0].files
    if more > ALLOWED_FILES:
        faults.append(f"{more} files more are open than at first.")
    if trend.grows:
        faults.append(
            f"Memory rose by {trend.rise / MIB:.1f} MiB, more than {ALLOWED / MIB:.0f} "
            "MiB and three times its scatter."
        )
    return faults
