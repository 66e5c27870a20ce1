"""`make bench`: what the service can carry, written to reports/capacity.md.

The service runs as it is deployed, one process on one CPU, with validation, limits,
metrics, ids and its JSON log; the load comes from another CPU.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence

from app.settings import Settings, SettingsError, load_settings
from bench import deploy, report
from bench.bodies import Bodies
from bench.capacity import (
    BATCHES,
    CONNECTIONS,
    LENGTHS,
    MANY_CONNECTIONS,
    OVERLOAD,
    ROUNDS,
    SECONDS,
    SOME_CONNECTIONS,
    STARTS,
    STEPS,
    Capacity,
    Level,
    Memory,
    Overload,
)
from bench.load import OK, REFUSED, Result, closed_loop, named, open_loop, request
from bench.serving import BenchError, Server, positive, serving


class Bench:
    """The measurements, each of `seconds`, of one service and one bare limit."""

    def __init__(
        self, service: Server, bare: Server, bodies: Bodies, seconds: float
    ) -> None:
        self._service = service
        self._bare = bare
        self._bodies = bodies
        self._seconds = seconds
        self._small = [request(body) for body in bodies.batches(1, 1000)]
        self.busiest_load = 0.0

    def check_answers(self) -> None:
        """Raise BenchError if the bare limit does not answer as the service does."""
        for body in [self._bodies.golden(), *self._bodies.batches(10, 10)]:
            answers = [self._bare.ask(body), self._service.ask(body)]
            labels = [_labels(content) for status, content in answers if status == OK]
            if len(labels) != 2 or labels[0] != labels[1]:
                raise BenchError(
                    f"The service and the bare limit differ: {answers}. If validation "
                    "changes an instance that it has already been through, make it "
                    "leave such an instance as it is (app/contract.py)."
                )

    def warm_up(self) -> None:
        """Let caches fill before anything is measured."""
        for server in (self._service, self._bare):
            self._closed(server, self._small, SOME_CONNECTIONS)

    def connections(self) -> tuple[dict[int, Level], dict[int, Level]]:
        """Service and bare limit by connections: medians of alternating rounds."""
        service: dict[int, list[Level]] = {count: [] for count in CONNECTIONS}
        bare: dict[int, list[Level]] = {count: [] for count in CONNECTIONS}
        for turn in range(ROUNDS):
            order = [(self._service, service), (self._bare, bare)]
            for count in CONNECTIONS:
                for server, levels in order if turn % 2 else reversed(order):
                    levels[count].append(self._closed(server, self._small, count))
        return _medians(service), _medians(bare)

    def batches(self) -> dict[int, Level]:
        """By instances a request."""
        return {size: self._some(self._batch(size)) for size in BATCHES}

    def lengths(self) -> dict[int, Level]:
        """By characters of a text, as far as the contract allows."""
        longest = self._bodies.longest()
        return {
            length: self._some([request(self._bodies.long(length))])
            for length in LENGTHS
            if length <= longest
        }

    def overload(self, size: int, peak: float, connections: int) -> Overload:
        """Four times the peak of requests of this size, then half of it."""
        requests = self._small if size == 1 else self._batch(size)
        half = (peak / 2, self._seconds)
        port, answered = self._service.port, self._checked
        usual = answered(open_loop(port, requests, MANY_CONNECTIONS, [half]))
        above = (OVERLOAD * peak, self._seconds)
        # What finds no free connection is turned away by the client.
        result = open_loop(port, requests, connections, [above, half], most_waiting=0)
        self._note(result)
        return Overload.of(result.answers, self._seconds, peak, usual.quantile(0.5))

    def step(self, rate: float) -> Level:
        """An open load of small requests at a rate, for twice the usual time."""
        before = self._service.cpu_seconds()
        phases = [(rate, 2 * self._seconds)]
        result = open_loop(self._service.port, self._small, MANY_CONNECTIONS, phases)
        used = self._service.cpu_seconds() - before
        return Level.of(self._checked(result), used)

    def heaviest(self, settings: Settings) -> str:
        """As many of the largest bodies as are let into work; what came of them."""
        limit = settings.max_body_bytes
        largest = [request(self._bodies.largest(limit))]
        many = min(settings.max_bytes_in_work // limit, settings.max_concurrency)
        many = max(many, 1)
        result = closed_loop(self._service.port, largest, many, self._seconds)
        size = f"{len(largest[0]) / 1e6:.1f} MB on {many} connections"
        return f"{size}: {named(result.statuses())}"

    def _batch(self, size: int) -> list[bytes]:
        return [request(body) for body in self._bodies.batches(size, 50)]

    def _some(self, requests: Sequence[bytes]) -> Level:
        return self._closed(self._service, requests, SOME_CONNECTIONS)

    def _closed(
        self, server: Server, requests: Sequence[bytes], connections: int
    ) -> Level:
        before = server.cpu_seconds()
        result = closed_loop(server.port, requests, connections, self._seconds)
        used = server.cpu_seconds() - before
        return Level.of(self._checked(result), used)

    def _checked(self, result: Result) -> Result:
        self._note(result)
        if not result.answers:
            raise BenchError(
                f"No request was due within {self._seconds:g} s. Measure longer: "
                "make bench SECONDS=5"
            )
        if set(result.statuses()) - {OK, REFUSED}:
            raise BenchError(
                f"Requests went wrong: {named(result.statuses())}. Where a limit of "
                "the settings or of app/contract.py is below what is measured, measure "
                "less: bench/capacity.py."
            )
        return result

    def _note(self, result: Result) -> None:
        self.busiest_load = max(self.busiest_load, result.busy)


def measure(settings: Settings, seconds: float) -> Capacity:
    """All measurements, one after the other. Raises BenchError."""
    bodies = Bodies(settings.model_dir)
    golden = bodies.golden()
    say("Start to ready")
    starts = [seconds_to_ready(golden) for _ in range(STARTS)]

    with serving("app", golden) as service, serving("bench.bare", golden) as bare:
        memory, descriptors = service.memory(), service.descriptors()
        bench = Bench(service, bare, bodies, seconds)
        bench.check_answers()
        bench.warm_up()
        say("Connections, service and bare limit in turns")
        connections, limit = bench.connections()
        say("Instances a request")
        batches = bench.batches()
        say("Length of a text")
        lengths = bench.lengths()
        peak = max(level.rate for level in connections.values())
        many = 2 * settings.max_concurrency
        say(f"Load of {OVERLOAD} times the peak")
        overloads = {
            "1 instance": bench.overload(1, peak, many),
            "100 instances": bench.overload(100, batches[100].rate, many),
        }
        say("Load in steps")
        steps = {share: bench.step(share * peak) for share in STEPS}
        say("The largest requests")
        heaviest = bench.heaviest(settings)
        time.sleep(1)  # until the service sees that the load has left
        return Capacity(
            connections=connections,
            bare=limit,
            batches=batches,
            lengths=lengths,
            overloads=overloads,
            steps=steps,
            seconds_to_ready=statistics.median(starts),
            memory=Memory(
                memory, service.peak_memory(), descriptors, service.descriptors()
            ),
            heaviest=heaviest,
            busiest_load=bench.busiest_load,
        )


def seconds_to_ready(body: bytes) -> float:
    """From the start of the process to its first prediction."""
    with serving("app", body) as server:
        return server.seconds_to_ready


def say(what: str) -> None:
    """Show what is going on, and since when."""
    print(f"{time.strftime('%H:%M:%S')}  {what} …", flush=True)


def _medians(rounds: dict[int, list[Level]]) -> dict[int, Level]:
    return {count: Level.median(levels) for count, levels in rounds.items()}


def _labels(content: bytes) -> list[str]:
    return [one["label"] for one in json.loads(content)["predictions"]]


def main() -> int:
    """Measure, write the report, compare it with deploy/; returns the exit code."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "seconds", nargs="?", type=positive, default=SECONDS, help="of each measurement"
    )
    seconds = parser.parse_args().seconds
    try:
        settings = load_settings()
        capacity = measure(settings, seconds)
    except (BenchError, SettingsError) as error:
        print(error, file=sys.stderr)
        return 1
    report.write(capacity, settings, seconds)
    print(deploy.REPORT.read_text(encoding="utf-8"))
    if doubts := report.doubts(capacity):
        print(f"Do not follow it yet.\n{doubts}")
    if seconds < SECONDS:
        print(
            f"Measurements of less than {SECONDS:g} s are a trial: deploy/ should not "
            "follow.\n`git restore reports` brings the earlier report back."
        )
    differ = deploy.differences()
    print("\n".join(differ) or "deploy/ has the values that follow.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
