"""The targets: bounds on measured figures, which the report compares."""

from dataclasses import dataclass
from typing import Any, cast

from benchmarks.results import Results

MB = 1e6


@dataclass(frozen=True)
class Target:
    """A bound on one measured figure.

    `path` leads to the figure in the results, from the name of the part; `unit` is what
    the bound is counted in and `scale` is how many of the result's are one of it.
    """

    what: str
    path: tuple[str, ...]
    bound: float
    at_most: bool = False
    unit: str = ""
    scale: float = 1

    @property
    def wanted(self) -> str:
        """The bound in words."""
        return f"{'≤' if self.at_most else '≥'} {self.bound:g}{self.unit}"

    def measured(self, results: Results) -> float | None:
        """Return the figure in the unit of the bound, or the number of items of a list.

        None if it was not measured.
        """
        found: Any = results
        for step in self.path:
            if isinstance(found, list):  # of servers, which have names
                found = {each["name"]: each for each in found}
            found = (found or {}).get(step)
        if isinstance(found, list):
            found = len(found)
        return None if found is None else cast(float, found) / self.scale

    def reached(self, figure: float) -> bool:
        """True if the figure keeps within the bound."""
        return figure <= self.bound if self.at_most else figure >= self.bound


def _rate(peer: str, title: str, connections: int, bound: float) -> Target:
    what = f"request rate to that of {title}, connections: {connections}"
    path = ("compare", "peers", peer, "figures", str(connections), "ratio")
    return Target(what, path, bound)


SERVICE = ("compare", "peers", "service")
P99 = (*SERVICE, "figures", "64", "p99")
READY = (*SERVICE, "seconds_to_ready")
MEMORY = (*SERVICE, "resident_bytes")
DISK = (*SERVICE, "environment_bytes")
GOODPUT, FAULTS = ("overload", "goodput"), ("soak", "faults")
GOODPUT_NEW, FAIRNESS = ("overload", "goodput_new"), ("work", "fairness", "ratio")
TIME, BYTES = ("table", "ratio_of_seconds"), ("table", "ratio_of_bytes")
EARLIER = "request rate to that of 0.3.0, connections: "

TARGETS = (
    *(
        Target(f"{EARLIER}{number}", ("rate", "rates", str(number), "ratio"), 0.97)
        for number in (1, 16, 64)
    ),
    _rate("bare", "a bare ASGI function", 1, 0.80),
    _rate("bare", "a bare ASGI function", 16, 0.85),
    _rate("bare", "a bare ASGI function", 64, 1.4),
    _rate("fastapi", "FastAPI by hand", 1, 1.3),
    _rate("fastapi", "FastAPI by hand", 16, 2),
    _rate("fastapi", "FastAPI by hand", 64, 3),
    _rate("litserve", "LitServe", 64, 12),
    _rate("bentoml", "BentoML", 64, 20),
    _rate("mlserver", "MLServer", 64, 20),
    _rate("mlflow", "MLflow", 64, 20),
    Target("p99, connections: 64", P99, 20, at_most=True, unit=" ms", scale=1e-3),
    Target("start to ready", READY, 1.2, at_most=True, unit=" s"),
    Target("resident memory", MEMORY, 110, at_most=True, unit=" MB", scale=MB),
    Target("serving environment", DISK, 200, at_most=True, unit=" MB", scale=MB),
    Target("answers under a flood of requests, to those at the peak", GOODPUT, 0.9),
    Target("the same, with a new connection each", GOODPUT_NEW, 0.7),
    Target("a polite client beside ten large ones", FAIRNESS, 10, at_most=True),
    Target("a million rows, to the time by hand", TIME, 1.5, at_most=True),
    Target("a million rows, to the memory by hand", BYTES, 2, at_most=True),
    Target("faults that the soak finds", FAULTS, 0, at_most=True),
)
