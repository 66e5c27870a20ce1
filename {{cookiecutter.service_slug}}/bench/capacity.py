"""Measure what one pod carries: rates, latencies, CPU and memory."""

import json
import os
import time
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from functools import partial

from pydantic import BaseModel, ConfigDict, ValidationError

from bench import ROOT, BenchError
from bench.bodies import Bodies
from bench.load import OK, REJECTED, Result, arrivals, closed_loop, open_loop, request
from bench.process import Process, started

RESULT = ROOT / "reports" / "capacity.json"
SETTINGS = ROOT / "deploy" / "base" / "settings.env"

SECONDS = 5.0  # of each measurement, for figures that deploy/ should follow
CONNECTIONS = [1, 16, 64, 256]
ROUNDS = 3
STEPS = [0.5, 0.6, 0.7, 0.8, 0.9]  # shares of the peak rate
STEP_CONNECTIONS = 64


class Level(BaseModel):
    """What one load gave.

    `rate` counts successful answers a second, `p50` and `p99` are their latencies in
    seconds, `rejected` is the share of requests that got 503, `cores` the CPU used.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rate: float
    p50: float
    p99: float
    rejected: float
    cores: float


class Capacity(BaseModel):
    """The result, as in `reports/capacity.json`; memory in bytes, times in seconds.

    `connections` maps the number of connections of a closed loop to what it gave,
    `steps` the share of the peak rate that an open loop offered. `cpus` are those that
    the measurement could use: the service had one of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    date: date
    model_version: str
    model_sha256: str
    cpus: int
    seconds: float
    connections: dict[int, Level]
    steps: dict[float, Level]
    seconds_to_ready: float
    memory_at_start: int
    memory_at_most: int

    @property
    def peak(self) -> Level:
        """Return the level with the highest rate of a closed loop."""
        return max(self.connections.values(), key=lambda level: level.rate)


def read() -> Capacity:
    """Read the result. Raises BenchError if it is missing or malformed."""
    try:
        return Capacity.model_validate_json(RESULT.read_bytes())
    except (OSError, ValidationError) as error:
        raise BenchError(
            f"reports/capacity.json cannot be read: run make bench. {error}"
        ) from None


def find_model() -> tuple[str, str] | None:
    """Return version and SHA-256 of the model in MODEL_DIR; None if there is none."""
    try:
        path = ROOT / os.environ.get("MODEL_DIR", "models") / "model.json"
        sidecar = json.loads(path.read_bytes())
        return sidecar["version"], sidecar["sha256"]
    except (OSError, ValueError, KeyError):
        return None


def explain_other_model(capacity: Capacity) -> str:
    """Say that the result describes another model than the one served; "" if not."""
    served = find_model()
    if served is None or served[1] == capacity.model_sha256:
        return ""
    return (
        "reports/capacity.json describes another model: run make bench. "
        f"It was measured with {capacity.model_version}; {served[0]} is served."
    )


def measure(seconds: float) -> Capacity:
    """Run all measurements, each of so many seconds. Raises BenchError."""
    model = find_model()
    if model is None:
        raise BenchError("There is no model: run make train, or make pull.")
    settings = read_settings()
    with started(settings | {"DRAIN_SECONDS": "0"}) as service:
        memory, port = service.memory("VmRSS"), service.port
        bodies = Bodies(service.get("/openapi.json"))
        small = make_requests(bodies.of(1))
        measure_level = partial(_measure_level, service)

        say("connections")
        closed_loop(port, small, STEP_CONNECTIONS, seconds)  # warms the service up
        connections = {}
        for count in CONNECTIONS:
            load = partial(closed_loop, port, small, count, seconds)
            rounds = [measure_level(load) for _ in range(ROUNDS)]
            connections[count] = sorted(rounds, key=lambda one: one.rate)[ROUNDS // 2]
        say("steps of load")
        peak = max(level.rate for level in connections.values())
        steps = {}
        for share in STEPS:
            due = list(arrivals(share * peak, 2 * seconds))
            step = partial(open_loop, port, small, STEP_CONNECTIONS, due)
            steps[share] = measure_level(step)
        say("large bodies")
        slots, limit = int(settings["MAX_CONCURRENCY"]), int(settings["MAX_BODY_BYTES"])
        fit = min(slots, int(settings["MAX_BYTES_IN_WORK"]) // limit)
        # More requests than may be in work, then as many of the largest as may be.
        for large, count in (bodies.of(100), 2 * slots), ([bodies.largest(limit)], fit):
            requests = make_requests(large)
            measure_level(partial(closed_loop, port, requests, max(1, count), seconds))
        return Capacity(
            date=datetime.now(UTC).date(),
            model_version=model[0],
            model_sha256=model[1],
            cpus=service.cpus,
            seconds=seconds,
            connections=connections,
            steps=steps,
            seconds_to_ready=round(service.seconds_to_ready, 2),
            memory_at_start=memory,
            memory_at_most=service.memory("VmHWM"),
        )


def _measure_level(service: Process, load: Callable[[], Result]) -> Level:
    """Run a load. Raises BenchError if requests went wrong, or none was answered."""
    before = service.cpu_seconds()
    result = load()
    cores = (service.cpu_seconds() - before) / result.seconds
    statuses = result.statuses()
    if not statuses[OK] or set(statuses) - {OK, REJECTED}:
        counts = ", ".join(f"{one}: {count}" for one, count in sorted(statuses.items()))
        raise BenchError(
            f"Requests went wrong. Answers by status (0: lost): {counts or 'none'}. If "
            "there are too few answers, measure longer: make bench SECONDS=5"
        )
    return Level(
        rate=round(result.rate, 1),
        p50=round(result.quantile(0.5), 6),
        p99=round(result.quantile(0.99), 6),
        rejected=round(statuses[REJECTED] / len(result.answers), 4),
        cores=round(cores, 3),
    )


def read_settings() -> dict[str, str]:
    """Return the settings that deploy/ gives a pod."""
    lines = SETTINGS.read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("=") for line in lines if line and line[0] != "#")
    return {name: value for name, _, value in pairs}


def make_requests(bodies: Iterable[bytes]) -> list[bytes]:
    """Return requests with these bodies, and with the key in API_KEY if it is set."""
    key = os.environ.get("API_KEY")
    headers = [f"Authorization: Bearer {key}"] if key else []
    return [request(body, *headers) for body in bodies]


def say(what: str) -> None:
    """Print what is measured now."""
    print(f"{time.strftime('%H:%M:%S')}  {what} …", flush=True)
