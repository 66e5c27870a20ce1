"""Flood the default service, and see what it answers and how a bystander fares.

A flood is twice as many connections as there may be requests in work, each asking again
as soon as it is answered; in one flood, on a new connection each time. A bystander asks
now and then, before, during and after it.
"""

import json
import math
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from benchmarks.generated import python, served, trained
from benchmarks.load import (
    LOST,
    OK,
    REJECTED,
    Answer,
    Result,
    arrivals,
    closed_loop,
    load_core,
    open_loop,
    port_of,
    request,
)
from benchmarks.results import Flood, versions

SIZES = (1, 100)  # instances in a request
SLOTS = 256  # MAX_CONCURRENCY of a service
CONNECTIONS = 2 * SLOTS
PEAK_CONNECTIONS = 64
BYSTANDER = 100.0  # requests a second
WINDOW = 0.1  # seconds: how finely the recovery is told
TEXT = "turn on the lights in the kitchen"


def measure(seconds: float = 5) -> dict[str, object]:
    """Measure the peak, then flood the service, for so many seconds each."""
    floods = {}
    with (
        trained() as service,
        served(service, variables={"MAX_CONCURRENCY": str(SLOTS)}) as server,
        load_core(),
    ):
        for size in SIZES:
            name = f"{size} instance{'s' * (size > 1)}"
            print(f"  requests of {name}", flush=True)
            floods[name] = flood(port_of(server), [make_request(size)], seconds)
        print("  a new connection for each request", flush=True)
        closing = request(make_body(1), "Connection: close")
        new = flood(port_of(server), [closing], seconds, reconnect=True)
        found = versions(python(service), "fastapi", "onnxruntime", "uvicorn")
    return {
        "versions": found,
        "connections": CONNECTIONS,
        "floods": {**floods, "1 instance, new connection": new},
        "goodput": round(
            min(one["answered"] / one["peak"] for one in floods.values()), 3
        ),
        "goodput_new": round(new["answered"] / new["peak"], 3),
    }


def make_request(size: int) -> bytes:
    """Return a request of so many instances."""
    return request(make_body(size))


def make_body(size: int) -> bytes:
    """Return the body of a request of so many instances."""
    return json.dumps({"instances": [{"text": TEXT}] * size}).encode()


def flood(
    port: int, requests: Sequence[bytes], seconds: float, *, reconnect: bool = False
) -> Flood:
    """Measure the peak, flood the service, and let it recover for as long again.

    With `reconnect`, each request has a connection of its own, in the peak as well.
    """
    peak = closed_loop(
        port, requests, PEAK_CONNECTIONS, seconds, reconnect=reconnect
    ).rate
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(time.monotonic).result()  # until the process has started
        began = time.monotonic()
        bystander = pool.submit(ask_now_and_then, port, 3 * seconds)
        time.sleep(seconds)
        from_ = time.monotonic() - began
        flooded = closed_loop(port, requests, CONNECTIONS, seconds, reconnect=reconnect)
        until = time.monotonic() - began
        answers = bystander.result()
    return summarise(peak, flooded, answers, from_, until)


def ask_now_and_then(port: int, seconds: float) -> list[Answer]:
    """Ask for one prediction at random moments."""
    with load_core():
        due = arrivals(BYSTANDER, seconds)
        return open_loop(port, [make_request(1)], PEAK_CONNECTIONS, due).answers


def summarise(
    peak: float,
    flooded: Result,
    bystander: Sequence[Answer],
    from_: float,
    until: float,
) -> Flood:
    """Judge the answers to a flood and to a bystander, who was there before and after.

    `from_` and `until` say when it was, in seconds since the bystander's start.
    """
    before = [answer for answer in bystander if answer.due < from_]
    during = [answer for answer in bystander if from_ <= answer.due < until]
    after = [answer for answer in bystander if answer.due >= until]
    usual = quantile((answer.seconds for answer in before), 0.5)
    statuses = flooded.statuses()
    rejected = [a.seconds for a in flooded.answers if a.status == REJECTED]
    refused = sum(answer.status == REJECTED for answer in during)
    return {
        "peak": round(peak, 1),
        "answered": round(flooded.rate, 1),
        "p99": round(flooded.quantile(0.99), 6),
        "rejected": round(statuses[REJECTED] / flooded.seconds, 1),
        "rejected_p99": round(quantile(rejected, 0.99), 6) if rejected else 0.0,
        "lost": statuses[LOST],
        "bystander": round(quantile((one.seconds for one in during), 0.99), 6),
        "refused": round(refused / len(during), 3),
        "recovery": find_recovery(after, until, usual),
    }


def find_recovery(answers: Iterable[Answer], end: float, usual: float) -> float | None:
    """Return the seconds after `end` until all is as usual; None if it never is.

    It is as usual when all of a window is answered, half of it within twice the usual
    time.
    """
    windows: dict[int, list[Answer]] = {}
    for answer in answers:
        windows.setdefault(int((answer.due - end) / WINDOW), []).append(answer)
    for number, window in sorted(windows.items()):
        half = quantile((answer.seconds for answer in window), 0.5)
        if all(answer.status == OK for answer in window) and half <= 2 * usual:
            return round(number * WINDOW, 1)
    return None


def quantile(values: Iterable[float], share: float) -> float:
    """Return the smallest value that this share does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
