"""What was measured: one JSON file a part in benchmarks/results, kept in Git.

A part is a module with `measure()`. Its file is what that returns, with the date, the
number of CPUs and the seconds it took. The shapes are below: parts make them,
`benchmarks.report` reads them, and this module imports neither.
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles
from typing import Any, NotRequired, TypedDict, cast

RESULTS = Path(__file__).parent / "results"

VERSIONS = """
import json, platform, sys
from importlib.metadata import version
python = {"Python": platform.python_version()}
print(json.dumps(python | {name: version(name) for name in sys.argv[1:]}))
"""


class Measured(TypedDict):
    """The day (UTC), the CPUs of the machine, the seconds it took, and the versions."""

    date: str
    cpus: int
    took: float
    versions: dict[str, str]


class Load(TypedDict):
    """Answers a second, and the p99 of their latencies in seconds."""

    rate: float
    p99: float


class Ratio(TypedDict):
    """The median of the ratios of all rounds, with their quartiles."""

    low: float
    ratio: float
    high: float


class Figures(TypedDict):
    """Medians at one number of connections: requests a second, latencies in seconds.

    `busy` is the share of its core that the server used: far below 1 at many
    connections, something else had the core, or the server waited. `ratio` is the rate
    of the service divided by that of this server.
    """

    rate: float
    p50: float
    p99: float
    busy: float
    ratio: float | None


class Peer(TypedDict):
    """A server. With a `failure` (the reason), what was not measured is None or empty.

    `difference` is the largest of a probability to scikit-learn's; `figures` are by
    number of connections, which JSON wants as a string.
    """

    name: str
    title: str
    failure: str | None
    versions: dict[str, str]
    difference: float | None
    seconds_to_ready: float | None
    resident_bytes: int | None
    environment_bytes: int | None
    figures: dict[str, Figures]


class Comparison(TypedDict):
    """The service beside other servers."""

    date: str
    cpus: int
    took: NotRequired[float]
    instances: int
    rounds: int
    seconds: float
    connections: list[int]
    peers: list[Peer]


class RateLoad(Ratio):
    """At one number of connections: the rates of both variants, and A to B."""

    a: float
    b: float


class Rate(Measured):
    """The request rate of variant A to that of variant B, by number of connections."""

    a: str
    b: str
    starts: int
    rounds: int  # of all starts
    seconds: float
    rates: dict[str, RateLoad]


class Growth(Measured):
    """What the default service carries as something grows, and the bare limit of it.

    Keys are the number of connections, of instances in a request (the rate then counts
    instances), and of characters in a text.
    """

    connections: dict[str, Load]
    bare: dict[str, Load]
    batches: dict[str, Load]
    lengths: dict[str, Load]


class Flood(TypedDict):
    """What became of a flood of requests; a second, and in seconds.

    `peak` is the rate without a flood. A client that asks now and then saw `bystander`
    (p99) and `refused` (the share of its requests that got 503) meanwhile. It was
    served as usual `recovery` seconds after the end; None if not within what was seen.
    """

    peak: float
    answered: float
    p99: float
    rejected: float
    rejected_p99: float
    lost: int
    bystander: float
    refused: float
    recovery: float | None


class Overload(Measured):
    """Floods by what they consist of; `goodput` is the least answered to peak.

    `goodput_new` is that of the flood whose requests have connections of their own.
    """

    connections: int
    floods: dict[str, Flood]
    goodput: float
    goodput_new: NotRequired[float]


class Soaked(TypedDict):
    """What a long load left behind; memory in bytes, `p99` in seconds.

    `rise` is how far the memory rose along its trend, `scatter` its deviation from the
    trend. `statuses` counts the requests by status.
    """

    minutes: float
    rate: float
    statuses: dict[str, int]
    p99: float
    worst_p99: float
    memory: list[int]
    rise: float
    scatter: float
    open_files: list[int]
    faults: list[str]


class Soak(Measured, Soaked):
    """A long load on the default service."""


class Labels(Measured):
    """`labels` maps the number of labels to what the service carried."""

    connections: int
    labels: dict[str, Load]


class Table(Measured):
    """A million rows: the stages of a service, and the same steps by hand.

    Of both the seconds, and the bytes of the largest process.
    """

    rows: int
    service: dict[str, float]
    by_hand: dict[str, float]
    ratio_of_seconds: float
    ratio_of_bytes: float


class Flights(Measured):
    """A public table of many rows: `score` and `by_hand` on the same test rows.

    `seconds` are those of all stages, `difference` the largest of a probability of the
    exported model, `answers` what the service answered to the samples over HTTP.
    """

    rows: int
    seconds: float
    score: float
    by_hand: float
    difference: float
    answers: list[str]


class Language(TypedDict):
    """The best that was tried on a language; `reason` is why the gate refused it."""

    labels: int
    score: float
    overrides: list[str]
    reason: str


class Languages(Measured):
    """The default data in each language; `gate` is the least macro-F1."""

    gate: float
    languages: dict[str, Language]


class Adopted(TypedDict):
    """A table through `make adopt`: scores of what is served and of a fit by hand.

    Both are macro-F1 or R² on the same held-out rows. `refused` counts those that the
    service refused; `seconds` are from the command to the first answer.
    """

    table: str
    rows: int
    fields: int
    task: str
    family: str
    served: float
    by_hand: float
    refused: int
    seconds: float


class Adoption(Measured):
    """Public tables through `make adopt`, by name."""

    tables: dict[str, Adopted]


class Watched(Measured, Ratio):
    """The request rate with metrics, log lines and ids, to that without."""

    rounds: int
    connections: int


class Inference(Measured):
    """The request rate of the Open Inference Protocol, to that of /v1/predict."""

    rounds: int
    connections: int
    ratios: dict[str, Ratio]  # by the rows of a request


class Fairness(TypedDict):
    """A polite client's median alone and beside others, and beside to alone."""

    alone: float
    beside: float
    ratio: float


class Stall(TypedDict):
    """The seconds of a liveness probe while two clients send a body again and again."""

    bytes: int
    median: float
    longest: float


class Work(Measured):
    """What one client's input costs others; `texts` in nanoseconds for each byte."""

    clients: int
    fairness: Fairness
    stalls: dict[str, Stall]
    texts: dict[str, float]


class Step(TypedDict):
    """Seconds of wall time, and those of the largest of its parts."""

    seconds: float
    largest: dict[str, float]


class Generation(TypedDict):
    """Seconds of processor time: with hooks, without, and of an empty template."""

    template: float
    without_hooks: float
    empty: float


class Template(Measured):
    """What the template costs those who work with it."""

    generation: Generation
    steps: dict[str, Step]


class Suite(Measured):
    """All tests of the template."""

    steps: dict[str, Step]


class Results(TypedDict):
    """What there is of each part."""

    compare: NotRequired[Comparison]
    rate: NotRequired[Rate]
    growth: NotRequired[Growth]
    overload: NotRequired[Overload]
    soak: NotRequired[Soak]
    labels: NotRequired[Labels]
    table: NotRequired[Table]
    flights: NotRequired[Flights]
    languages: NotRequired[Languages]
    adoption: NotRequired[Adoption]
    watched: NotRequired[Watched]
    inference: NotRequired[Inference]
    work: NotRequired[Work]
    template: NotRequired[Template]
    suite: NotRequired[Suite]


def quartiles(ratios: Sequence[float]) -> Ratio:
    """Return the median and the quartiles of one ratio or more."""
    some = [*ratios, *ratios] if len(ratios) == 1 else ratios
    low, middle, high = (round(each, 3) for each in quantiles(some, method="inclusive"))
    return {"low": low, "ratio": middle, "high": high}


def keep(part: str, measured: Mapping[str, object], took: float) -> None:
    """Write what a part measured, and how many seconds it took."""
    about: dict[str, object] = {
        "date": datetime.now(UTC).date().isoformat(),
        "cpus": os.cpu_count(),
        "took": round(took),
    }
    text = json.dumps(about | dict(measured), indent=2, ensure_ascii=False)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{part}.json").write_text(text + "\n", encoding="utf-8")


def load(directory: Path = RESULTS) -> Results:
    """Return all that is kept."""
    kept: dict[str, Any] = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(directory.glob("*.json"))
    }
    return cast(Results, kept)


def versions(python: Path, *packages: str) -> dict[str, str]:
    """Return the versions of an environment: its Python, and some packages."""
    command = [str(python), "-c", VERSIONS, *packages]
    found: dict[str, str] = json.loads(subprocess.check_output(command, text=True))
    return found
