"""The service beside other ways to serve the same model.

`python -m benchmarks.compare` prints the tables. Every server answers the same real
instances on one core, wrk asks from another. The rounds are interleaved and their
order rotates, as machines drift; the ratios are made within a round.
"""

import argparse
import http.client
import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from benchmarks import wrk
from benchmarks.peers import PEERS, SERVICE, Features, Peer, environments
from benchmarks.peers.service import generate
from benchmarks.results import Comparison, Figures
from benchmarks.results import Peer as Result
from benchmarks.sections import compare_section
from benchmarks.serving import (
    Server,
    ServingError,
    cpu_seconds,
    free_port,
    resident_bytes,
    serving,
)

ROUNDS = 5
SECONDS = 3.0
CONNECTIONS = (1, 16, 64)
TOLERANCE = 1e-5  # of a probability: ONNX computes it with 32 bits
WARM_UP_SECONDS = 1.0
REST_SECONDS = 0.5
ANSWER_SECONDS = 30
REASON_LENGTH = 600


class AnswerError(Exception):
    """A server answers wrongly, or not at all."""


FAILURES = (environments.CommandError, ServingError, AnswerError, wrk.LoadError)


@dataclass(frozen=True)
class Scene:
    """What all servers share: directories, instances, and scikit-learn's answers."""

    directory: Path
    service: Path
    model: Path
    instances: list[Features]
    expected: list[float]


@dataclass
class Entry:
    """A peer in the race. `loads` and `busy` have an item a round, by connections.

    What `own` holds ends with it, or as soon as it has failed.
    """

    peer: Peer
    result: Result
    bodies: list[str]
    server: Server | None = None
    own: ExitStack = field(default_factory=ExitStack)
    loads: dict[int, list[wrk.Load]] = field(default_factory=dict)
    busy: dict[int, list[float]] = field(default_factory=dict)

    @property
    def running(self) -> Server:
        """The server, once `start` has succeeded."""
        assert self.server is not None
        return self.server

    @property
    def url(self) -> str:
        """Where predictions are asked for."""
        return self.running.url + self.peer.path


def measure(
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
    connections: Sequence[int] = CONNECTIONS,
    names: Sequence[str] = (),
) -> Comparison:
    """Compare the servers of these names, or all; say on stderr what is being done.

    A peer that fails is reported with the reason and does not stop the others. Raises
    LoadError if there is no wrk, CommandError if the service itself cannot be made.
    """
    if not wrk.installed():
        raise wrk.LoadError("wrk is not installed: apt-get install wrk.")
    peers = [peer for peer in PEERS if not names or peer.name in names]
    with TemporaryDirectory() as directory, ExitStack() as stack:
        say("service: generate, install, train")
        scene = prepare(Path(directory))
        entries = [enter(peer, scene) for peer in peers]
        for entry in entries:
            say(f"{entry.peer.name}: install, start, compare answers")
            stack.enter_context(entry.own)
            try:
                start(entry, scene, max(connections))
            except FAILURES as error:
                give_up(entry, error, scene)
        for turn in range(rounds):
            say(f"round {turn + 1} of {rounds}")
            first = turn % len(entries)
            for many in connections:
                race(entries[first:] + entries[:first], many, seconds, scene)

    service = next((each for each in entries if each.peer.name == SERVICE), None)
    for entry in entries:
        if entry.result["failure"] is None:
            entry.result["figures"] = summarise(entry, service)
    return {
        "date": date.today().isoformat(),
        "cpus": os.cpu_count() or 1,
        "instances": len(scene.instances),
        "rounds": rounds,
        "seconds": seconds,
        "connections": list(connections),
        "peers": [entry.result for entry in entries],
    }


def prepare(directory: Path) -> Scene:
    """Generate the service, make its environment, train the model of all."""
    model = directory / "model"
    model.mkdir()
    service = generate(directory)
    environments.sync(service, "service", "--no-default-groups")
    training = environments.sync(
        service, "training", "--no-default-groups", "--group", "training"
    )
    script = environments.HERE / "train.py"
    environments.run(
        str(training / "bin" / "python"), str(script), str(model), cwd=directory
    )
    return Scene(
        directory=directory,
        service=service,
        model=model,
        instances=json.loads((model / "instances.json").read_text()),
        expected=json.loads((model / "expected.json").read_text()),
    )


def enter(peer: Peer, scene: Scene) -> Entry:
    """Return a peer of which nothing is known yet."""
    result: Result = {
        "name": peer.name,
        "title": peer.title,
        "failure": None,
        "versions": {},
        "difference": None,
        "seconds_to_ready": None,
        "resident_bytes": None,
        "environment_bytes": None,
        "figures": {},
    }
    bodies = [json.dumps(peer.body(features)) for features in scene.instances]
    return Entry(peer, result, bodies)


def start(entry: Entry, scene: Scene, connections: int) -> None:
    """Install and start a peer, hold its answers against scikit-learn's, warm it up."""
    peer, result = entry.peer, entry.result
    target = environments.HOME / peer.environment
    if peer.environment != SERVICE:
        environments.install(peer.environment, peer.python)
    result["versions"] = environments.versions(target, peer.versions)
    result["environment_bytes"] = environments.size(target)

    serve = ready_to_serve(peer, target, scene)
    # The second start counts: the first compiles, and reads everything from the disk.
    with serve():
        pass
    server = entry.server = entry.own.enter_context(serve())
    result["seconds_to_ready"] = server.seconds_to_ready
    result["difference"] = compare_answers(entry, scene.expected)
    wrk.load(entry.url, entry.bodies, connections, WARM_UP_SECONDS)
    result["resident_bytes"] = resident_bytes(server.pid)
    rest(entry)


def ready_to_serve(
    peer: Peer, target: Path, scene: Scene
) -> Callable[[], AbstractContextManager[Server]]:
    """Prepare a peer that is installed in `target`; what is given then starts it."""
    work = scene.directory / peer.name
    work.mkdir()
    port = free_port()
    places = {
        "port": str(port),
        "second_port": str(free_port()),
        "third_port": str(free_port()),
        "model": str(scene.model),
        "service": str(scene.service),
        "work": str(work),
        "here": str(environments.HERE),
    }

    def fill(*parts: str) -> list[str]:
        return [part.format(**places) for part in parts]

    variables = environments.variables(target)
    variables |= zip(peer.variables, fill(*peer.variables.values()), strict=True)
    if peer.prepare:
        environments.run(*fill(*peer.prepare), cwd=work, variables=variables)
    return partial(
        serving,
        command=fill(*peer.command),
        port=port,
        ready=peer.ready,
        log=work / "server.log",
        cwd=Path(*fill(peer.directory)),
        variables=variables,
    )


def compare_answers(entry: Entry, expected: Sequence[float]) -> float:
    """Return the largest difference of a probability to the expected one.

    Raises AnswerError if it is too large, or if an answer is none.
    """
    where = urlsplit(entry.url)
    assert where.hostname is not None
    connection = http.client.HTTPConnection(
        where.hostname, where.port, timeout=ANSWER_SECONDS
    )
    largest = 0.0
    try:
        for body, probability in zip(entry.bodies, expected, strict=True):
            headers = {"Content-Type": "application/json"}
            connection.request("POST", where.path, body, headers)
            response = connection.getresponse()
            content = response.read()
            if response.status != 200:
                raise AnswerError(f"It answers {response.status}: {content!r:.300}")
            given = entry.peer.read(json.loads(content))
            largest = max(largest, abs(given - probability))
    except (OSError, http.client.HTTPException) as error:
        raise AnswerError(f"It does not answer: {error}") from None
    except (KeyError, IndexError, TypeError, ValueError):
        raise AnswerError(f"No probability is in its answer {content!r:.300}") from None
    finally:
        connection.close()
    if not largest <= TOLERANCE:
        raise AnswerError(
            f"Its probabilities differ from scikit-learn's by up to {largest:.2g}, "
            f"allowed is {TOLERANCE}."
        )
    return largest


def race(entries: Sequence[Entry], many: int, seconds: float, scene: Scene) -> None:
    """Load one server after the other, without those that failed."""
    for entry in entries:
        if entry.result["failure"] is not None:
            continue
        if entry.peer.restless:
            entry.running.resume()
        began, used = time.perf_counter(), cpu_seconds(entry.running.pid)
        try:
            done = wrk.load(entry.url, entry.bodies, many, seconds)
        except wrk.LoadError as error:
            give_up(entry, error, scene)
        else:
            used = cpu_seconds(entry.running.pid) - used
            entry.loads.setdefault(many, []).append(done)
            share = used / (time.perf_counter() - began)
            entry.busy.setdefault(many, []).append(share)
        rest(entry)


def rest(entry: Entry) -> None:
    """Give the core back: finish what wrk no longer waits for, then idle.

    Not all are paused: BentoML would take the pause for the time of a prediction, and
    adapt its batches to it.
    """
    time.sleep(REST_SECONDS)
    if entry.peer.restless:
        entry.running.pause()


def summarise(entry: Entry, service: Entry | None) -> dict[str, Figures]:
    """Medians of the rounds; ratios only if the service ran in all of them, too."""
    figures: dict[str, Figures] = {}
    for many, loads in entry.loads.items():
        ratio = None
        if service is not None and service.result["failure"] is None:
            pairs = zip(service.loads[many], loads, strict=True)
            ratio = median(ours.rate / theirs.rate for ours, theirs in pairs)
        figures[str(many)] = {
            "rate": median(load.rate for load in loads),
            "p50": median(load.p50 for load in loads),
            "p99": median(load.p99 for load in loads),
            "busy": median(entry.busy[many]),
            "ratio": ratio,
        }
    return figures


def give_up(entry: Entry, error: Exception, scene: Scene) -> None:
    """End a peer and say why it is out, without places and hosts of this machine."""
    entry.own.close()
    reason = str(error)
    for place in (scene.directory, environments.ROOT, sys.base_prefix, Path.home()):
        reason = reason.replace(str(place), "…")
    reason = re.sub(r"https?://\S+", "…", reason)
    entry.result["failure"] = reason[-REASON_LENGTH:]
    say(f"{entry.peer.name}: {reason}")


def say(what: str) -> None:
    """Tell the person who waits."""
    print(what, file=sys.stderr, flush=True)


def main() -> int:
    """Print the tables; returns the exit code."""
    known = [peer.name for peer in PEERS]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", help=f"some of {','.join(known)}; else all")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--connections", type=int, nargs="+", default=CONNECTIONS)
    options = parser.parse_args()
    names = options.peers.split(",") if options.peers else []
    if unknown := set(names) - set(known):
        parser.error(f"no peer is called {sorted(unknown)}; known are {known}")

    try:
        comparison = measure(
            options.rounds, options.seconds, options.connections, names
        )
    except FAILURES as error:
        print(error, file=sys.stderr)
        return 1
    print(compare_section(comparison))
    return 0


if __name__ == "__main__":
    sys.exit(main())
