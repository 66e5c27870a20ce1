"""`make soak`: hours in minutes, at 80 % of what the service can carry.

The load comes in slices. After each, when its connections are closed, memory and file
descriptors are read: what is still there was kept by the service. It fails if one
request was not answered with a prediction, or if memory or file descriptors grew.
"""

import argparse
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from app.settings import SettingsError, load_settings
from bench.bodies import Bodies
from bench.load import OK, closed_loop, named, open_loop, request
from bench.serving import ROOT, BenchError, Server, positive, serving

RESULT = ROOT / "outputs" / "soak.md"

SHARE = 0.8  # of the capacity
CONNECTIONS = 64
SLICE = 5.0  # seconds
SAMPLES = 10  # at least
MIB = 2**20
# Memory may rise along its trend by this and by three times its scatter about it.
ALLOWED = 4 * MIB
# A slice leaves nothing open; one may still be about to close.
ALLOWED_DESCRIPTORS = 2


@dataclass(frozen=True)
class Sample:
    """After a slice: seconds since the start, p99 in seconds, bytes, descriptors."""

    time: float
    p99: float
    memory: int
    descriptors: int


@dataclass(frozen=True)
class Trend:
    """The line of least squares through the memory, in bytes: its rise and scatter."""

    rise: float
    scatter: float

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> "Trend":
        """The trend over two samples or more."""
        times = [sample.time for sample in samples]
        memory = [float(sample.memory) for sample in samples]
        slope, start = statistics.linear_regression(times, memory)
        rest = [m - start - slope * t for t, m in zip(times, memory, strict=True)]
        rise = slope * (times[-1] - times[0])
        return cls(rise, statistics.pstdev(rest))

    @property
    def grows(self) -> bool:
        """Whether it rises by more than the allocator and chance explain."""
        return self.rise > ALLOWED + 3 * self.scatter


def soak(server: Server, requests: Sequence[bytes], seconds: float) -> list[str]:
    """Load the server; print and write what was seen. Returns what is wrong."""
    length = min(SLICE, seconds / SAMPLES)
    warm = closed_loop(server.port, requests, CONNECTIONS, length)
    rate = SHARE * warm.rate()
    print(f"{warm.rate():,.0f} requests a second at the most; {rate:,.0f} from now on.")

    samples: list[Sample] = []
    statuses: Counter[int] = Counter()
    start = time.monotonic()
    while time.monotonic() < start + seconds:
        result = open_loop(server.port, requests, CONNECTIONS, [(rate, length)])
        time.sleep(0.1)  # until the server sees that the connections are closed
        statuses += result.statuses()
        samples.append(
            Sample(
                time.monotonic() - start,
                result.quantile(0.99),
                server.memory(),
                server.descriptors(),
            )
        )
        print(_line(samples[-1]), flush=True)

    trend = Trend.of(samples)
    text = _report(samples, trend, statuses)
    print(f"\n{text}", end="")
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(text, encoding="utf-8")
    return _faults(samples, trend, statuses)


def _line(sample: Sample) -> str:
    p99 = f"p99 {sample.p99 * 1e3:6.1f} ms"
    memory = f"{sample.memory / MIB:6.1f} MiB"
    descriptors = f"{sample.descriptors} file descriptors"
    return f"{sample.time:5.0f} s  {p99}  {memory}  {descriptors}"


def _report(
    samples: Sequence[Sample],
    trend: Trend,
    statuses: Counter[int],
) -> str:
    begin, end = samples[0].time, samples[-1].time
    p99 = [one.p99 * 1e3 for one in samples]
    first = [one.memory for one in samples if one.time <= begin + 60]
    last = [one.memory for one in samples if one.time >= end - 60]
    lines = [
        f"Length: {end / 60:.1f} minutes",
        f"Requests: {named(statuses)}",
        f"p99: {statistics.median(p99):.1f} ms in the median slice, {max(p99):.1f} ms "
        "in the worst",
        f"Memory: {statistics.mean(first) / MIB:.1f} MiB in the first minute, "
        f"{statistics.mean(last) / MIB:.1f} MiB in the last; "
        f"trend {trend.rise / MIB:+.1f} MiB in all, "
        f"scatter {trend.scatter / MIB:.1f} MiB",
        f"File descriptors: {samples[0].descriptors} at first, "
        f"{samples[-1].descriptors} at last",
    ]
    return "# Soak\n\n" + "".join(f"- {line}\n" for line in lines)


def _faults(
    samples: Sequence[Sample], trend: Trend, statuses: Counter[int]
) -> list[str]:
    faults = []
    if set(statuses) != {OK}:
        faults.append(f"Not every request got a prediction: {named(statuses)}.")
    more = samples[-1].descriptors - samples[0].descriptors
    if more > ALLOWED_DESCRIPTORS:
        faults.append(f"{more} file descriptors more than at first: some stay open.")
    if trend.grows:
        faults.append(
            f"Memory rose by {trend.rise / MIB:.1f} MiB, more than "
            f"{ALLOWED / MIB:.0f} MiB and three times its scatter. Soak longer: what "
            "is kept once flattens out, a leak goes on."
        )
    return faults


def main() -> int:
    """Returns the exit code: 1 if something is wrong."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("minutes", nargs="?", type=positive, default=10.0)
    minutes = parser.parse_args().minutes
    try:
        bodies = Bodies(load_settings().model_dir)
        requests = [request(body) for body in bodies.batches(1, 1000)]
        with serving("app", bodies.golden()) as server:
            faults = soak(server, requests, minutes * 60)
    except (BenchError, SettingsError) as error:
        faults = [str(error)]
    if faults:
        print("\n".join(faults), file=sys.stderr)
        return 1
    print(f"In {minutes:g} minutes every request was answered, and nothing grew.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
