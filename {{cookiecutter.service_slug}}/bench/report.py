"""Writes reports/capacity.md and the plots beside it."""

import io
import math
import os
import platform
from datetime import UTC, datetime

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator

from app.model import SIDECAR_FILE, Sidecar
from app.protocol import PAUSE
from app.settings import Settings
from bench import deploy
from bench.capacity import (
    OVERLOAD,
    ROUNDS,
    SOME_CONNECTIONS,
    Capacity,
    Level,
    Overload,
)
from bench.deploy import LATENCY, MIB, REPORT
from bench.serving import cpus
from monitoring.__main__ import table

PLOTS = REPORT.with_suffix(".svg")

PAGE = """\
# What the service can carry

`make bench` wrote this on {date}: model `{version}`, Python {python}, {cpus} CPUs,
{share}; each measurement took {seconds:g} s. The service
is one process with one event loop and runs as it is deployed: validation, limits,
metrics, ids and the JSON log are on. Another machine gives other figures; the ratios
are what can be compared.

**{peak:,.0f} requests a second per core**, of one instance each, at the peak.
{doubts}
![Rate and p99 against connections, batch size and length](capacity.svg)

## Connections

Each connection asks again once it is answered. The bare limit is the same model behind
an ASGI function on uvicorn, without routing, validation, batching, limits, ids, metrics
and log. Medians of {rounds} rounds, in turns.

{connections}
## Instances a request

On {some} connections, each asking again once it is answered.

{batches}
## Length of a text

Requests of one instance on {some} connections.

{lengths}
## Overload

Requests come at {times} times the peak, at random moments, on at most {most}
connections; those that find no free connection are not sent, as a proxy would turn them
away. Times count from the moment a request was due. Normal is: nothing refused, and
half of the answers within twice the time that they take at half of the peak. The first
refusal of a connection comes at once; who asks again within the second of Retry-After
is not read from for {pause:.0f} ms.

{overloads}
## Load

Requests of one instance at random moments, at a share of the peak. Times count from the
moment a request was due. The highest share with a p99 within {latency:.0f} ms is what
a pod should carry; above it, requests begin to wait for each other.

{steps}
## Start, memory, file descriptors

{process}
## What follows for deploy/

`tests/test_capacity.py` holds these values and those in `deploy/base` together.

{deploy}"""

# Shown if, at the peak, the service got less than this of its CPU.
QUIET = 0.9
NOT_QUIET = """
**The machine was busy with something else**: at its peak the service got {cores:.2f} of
its CPU. Measure again on a quiet one; what follows for deploy/ is too small.
"""
# Shown if even the lowest step of the load was not carried well.
NOT_WELL = """
**No load was carried within {ms:.0f} ms at p99**: the lowest stands in for it.
Measure lower steps (`STEPS` in bench/capacity.py), or allow more (`LATENCY` in
bench/deploy.py).
"""


def write(capacity: Capacity, settings: Settings, seconds: float) -> None:
    """Replace the report and its plots."""
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(text(capacity, settings, seconds), encoding="utf-8")
    PLOTS.write_text(plots(capacity), encoding="utf-8")


def text(capacity: Capacity, settings: Settings, seconds: float) -> str:
    """The report in Markdown."""
    sidecar = (settings.model_dir / SIDECAR_FILE).read_bytes()
    of_server, of_load = cpus()
    peak = capacity.peak
    return PAGE.format(
        date=datetime.now(UTC).date().isoformat(),
        version=Sidecar.model_validate_json(sidecar).version,
        python=platform.python_version(),
        cpus=os.cpu_count(),
        share=(
            "of which the service and the load share one"
            if of_server == of_load
            else "one for the service and one for the load"
        ),
        seconds=seconds,
        peak=peak.rate / peak.cores,
        doubts=doubts(capacity),
        rounds=ROUNDS,
        some=SOME_CONNECTIONS,
        times=OVERLOAD,
        most=2 * settings.max_concurrency,
        pause=PAUSE * 1e3,
        latency=LATENCY * 1e3,
        connections=_connections(capacity),
        batches=_batches(capacity.batches),
        lengths=_lengths(capacity.lengths),
        overloads=_overloads(capacity.overloads),
        steps=_steps(capacity.steps),
        process=_process(capacity),
        deploy=table(
            ["Value", "Is", "From", "Rule", "Stands in"],
            deploy.table(figures(capacity)),
        ),
    )


def doubts(capacity: Capacity) -> str:
    """Why nothing should follow from these figures, if there is a reason."""
    cores = capacity.peak.cores
    quiet = "" if cores >= QUIET else NOT_QUIET.format(cores=cores)
    well = "" if _within(capacity) else NOT_WELL.format(ms=LATENCY * 1e3)
    return quiet + well


def _within(capacity: Capacity) -> list[Level]:
    """The steps of the load that were carried well."""
    return [
        level
        for level in capacity.steps.values()
        if level.p99 <= LATENCY and not level.refused
    ]


def figures(capacity: Capacity) -> dict[str, float]:
    """What deploy/ follows from."""
    lowest, *_ = capacity.steps.values()
    *_, well = [lowest, *_within(capacity)]
    memory = capacity.memory.at_most / MIB
    return {
        "limits.cpu": capacity.peak.cores,
        "averageValue": well.cores,
        "requests.cpu": well.cores,
        "limits.memory": memory,
        "requests.memory": memory,
    }


def _connections(capacity: Capacity) -> str:
    return table(
        [
            "Connections",
            *("Requests/s", "p50", "p99", "Refused", "Cores used"),
            *("Bare: requests/s", "p50", "p99", "Service to bare"),
        ],
        [
            [
                str(count),
                *_level(level),
                _refused(level),
                f"{level.cores:.2f}",
                *_level(capacity.bare[count]),
                f"{level.rate / capacity.bare[count].rate:.2f}",
            ]
            for count, level in capacity.connections.items()
        ],
    )


def _batches(batches: dict[int, Level]) -> str:
    return table(
        ["Instances", "Instances/s", "Requests/s", "p50", "p99", "Refused"],
        [
            [f"{size:,}", f"{size * level.rate:,.0f}", *_level(level), _refused(level)]
            for size, level in batches.items()
        ],
    )


def _lengths(lengths: dict[int, Level]) -> str:
    if not lengths:
        return "The instances of the contract have no text.\n"
    return table(
        ["Characters", "Requests/s", "p50", "p99", "Refused"],
        [
            [f"{length:,}", *_level(level), _refused(level)]
            for length, level in lengths.items()
        ],
    )


def _steps(steps: dict[float, Level]) -> str:
    return table(
        ["Share of the peak", "Requests/s", "p50", "p99", "Refused", "Cores used"],
        [
            [f"{share:.0%}", *_level(level), _refused(level), f"{level.cores:.2f}"]
            for share, level in steps.items()
        ],
    )


def _overloads(overloads: dict[str, Overload]) -> str:
    return table(
        [
            *(
                "Requests of",
                "Offered/s",
                "Answered/s",
                "Of the peak",
                "p99 of answers",
            ),
            *("Refused/s (503)", "p99 of refusals", "Not sent/s", "Lost/s"),
            "Normal again after",
        ],
        [
            [
                name,
                f"{one.offered:,.0f}",
                f"{one.answered:,.0f}",
                f"{one.answered / one.peak:.0%}",
                _time(one.p99),
                f"{one.refused:,.0f}",
                _time(one.refused_p99),
                f"{one.unsent:,.0f}",
                f"{one.lost:,.0f}",
                "not seen" if one.recovery is None else f"{one.recovery:.1f} s",
            ]
            for name, one in overloads.items()
        ],
    )


def _process(capacity: Capacity) -> str:
    memory = capacity.memory
    return table(
        ["Figure", "Value"],
        [
            ["Start to first prediction", f"{capacity.seconds_to_ready:.2f} s"],
            ["Resident memory after the start", f"{memory.at_start / MIB:.0f} MiB"],
            ["Most resident memory", f"{memory.at_most / MIB:.0f} MiB"],
            ["The largest requests", capacity.heaviest],
            ["File descriptors after the start", str(memory.descriptors_at_start)],
            ["File descriptors after all loads", str(memory.descriptors_at_end)],
            ["Its own CPU that making the load took", f"{capacity.busiest_load:.0%}"],
        ],
    )


def _level(level: Level) -> list[str]:
    return [f"{level.rate:,.0f}", _time(level.p50), _time(level.p99)]


def _refused(level: Level) -> str:
    return f"{level.refused:.0%}"


def _time(seconds: float) -> str:
    return "–" if math.isnan(seconds) else f"{seconds * 1000:.1f} ms"


def plots(capacity: Capacity) -> str:
    """Rate and p99 against what grows, as SVG that Git can keep."""
    connections = {"service": capacity.connections, "bare": capacity.bare}
    columns = [
        ("connections", connections),
        ("instances a request", {"service": capacity.batches}),
        ("characters of a text", {"service": capacity.lengths}),
    ]
    content = io.StringIO()
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "capacity"}):
        figure, axes = plt.subplots(2, len(columns), figsize=(12, 6), sharex="col")
        for column, (grows, lines) in enumerate(columns):
            rate, p99 = axes[0][column], axes[1][column]
            for name, levels in lines.items():
                _line(rate, name, {n: level.rate for n, level in levels.items()})
                _line(p99, name, {n: level.p99 * 1e3 for n, level in levels.items()})
            p99.set_xlabel(grows)
        axes[0][0].set_ylabel("requests a second")
        axes[1][0].set_ylabel("p99 in ms")
        axes[0][0].legend()
        figure.savefig(
            content, format="svg", bbox_inches="tight", metadata={"Date": None}
        )
        plt.close(figure)
    lines_of_text = content.getvalue().splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines_of_text)


def _line(axes: Axes, name: str, points: dict[int, float]) -> None:
    axes.plot(list(points), list(points.values()), marker="o", label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(list(points), [f"{number:,}" for number in points])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:,g}")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.3)
