"""What is measured, and the figures that the report is written from."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.load import OK, REFUSED, UNSENT, Answer, Result, quantile

CONNECTIONS = [1, 16, 64, 256]
ROUNDS = 3
SECONDS = 5.0  # of each measurement, for a report that is to be followed
BATCHES = [1, 10, 100, 1000]
LENGTHS = [10, 100, 1000, 10_000]
SOME_CONNECTIONS = 16  # enough to keep the service at work
MANY_CONNECTIONS = 64
OVERLOAD = 4  # times the peak
STEPS = [0.5, 0.6, 0.7, 0.8, 0.9]  # shares of the peak
STARTS = 3

WINDOW = 0.1  # seconds: how finely the recovery is told


@dataclass(frozen=True)
class Level:
    """How one load was carried: predictions a second, seconds, cores used.

    `refused` is the share of the requests that got 503.
    """

    rate: float
    p50: float
    p99: float
    cores: float
    refused: float

    @classmethod
    def of(cls, result: Result, cpu_seconds: float) -> "Level":
        """The figures of a load for which the server took this CPU time."""
        return cls(
            result.rate(),
            result.quantile(0.5),
            result.quantile(0.99),
            cpu_seconds / result.seconds,
            result.statuses()[REFUSED] / len(result.answers),
        )

    @classmethod
    def median(cls, rounds: Sequence["Level"]) -> "Level":
        """Each figure's median over the rounds."""
        return cls(
            statistics.median(level.rate for level in rounds),
            statistics.median(level.p50 for level in rounds),
            statistics.median(level.p99 for level in rounds),
            statistics.median(level.cores for level in rounds),
            statistics.median(level.refused for level in rounds),
        )


@dataclass(frozen=True)
class Overload:
    """What became of a load far above the peak, in requests a second and seconds.

    `recovery` is how long after its end the service was back to normal: nothing is
    refused, and half of the answers come within twice the usual time. None: not within
    what was looked at.
    """

    offered: float
    answered: float
    peak: float
    p99: float
    refused: float
    refused_p99: float
    unsent: float
    lost: float
    recovery: float | None

    @classmethod
    def of(
        cls, answers: Sequence[Answer], seconds: float, peak: float, usual: float
    ) -> "Overload":
        """From the answers to an overload of some seconds and to what came after it.

        `peak` is the rate that it can carry, `usual` the usual median of the seconds.
        """
        during = [answer for answer in answers if answer.due < seconds]
        by_status = {
            status: [one for one in during if one.status == status]
            for status in (OK, REFUSED, UNSENT)
        }
        in_time = [one for one in by_status[OK] if one.due + one.seconds <= seconds]
        known = sum(map(len, by_status.values()))
        return cls(
            offered=len(during) / seconds,
            answered=len(in_time) / seconds,
            peak=peak,
            p99=_p99(by_status[OK]),
            refused=len(by_status[REFUSED]) / seconds,
            refused_p99=_p99(by_status[REFUSED]),
            unsent=len(by_status[UNSENT]) / seconds,
            lost=(len(during) - known) / seconds,
            recovery=_recovery(answers, seconds, usual),
        )


def _p99(answers: Sequence[Answer]) -> float:
    return quantile(sorted(answer.seconds for answer in answers), 0.99)


def _recovery(answers: Sequence[Answer], end: float, usual: float) -> float | None:
    windows: dict[int, list[Answer]] = {}
    for answer in answers:
        if answer.due >= end:
            windows.setdefault(int((answer.due - end) / WINDOW), []).append(answer)
    for number, window in sorted(windows.items()):
        half = quantile(sorted(answer.seconds for answer in window), 0.5)
        if all(answer.status == OK for answer in window) and half <= 2 * usual:
            return number * WINDOW
    return None


@dataclass(frozen=True)
class Memory:
    """Resident memory in bytes, and open file descriptors."""

    at_start: int
    at_most: int
    descriptors_at_start: int
    descriptors_at_end: int


@dataclass(frozen=True)
class Capacity:
    """All figures. The keys are what grows; those of `steps` are shares of the peak."""

    connections: dict[int, Level]
    bare: dict[int, Level]
    batches: dict[int, Level]
    lengths: dict[int, Level]
    overloads: dict[str, Overload]
    steps: dict[float, Level]
    seconds_to_ready: float
    memory: Memory
    heaviest: str
    busiest_load: float

    @property
    def peak(self) -> Level:
        """The most requests of one instance that are answered in a second."""
        return max(self.connections.values(), key=lambda level: level.rate)
