"""The load: prebuilt requests on kept-alive connections, and what came of each.

wrk cannot hold a rate, and its latencies do not tell what was answered from what was
refused. Here the loop is closed (every connection asks again once it is answered) or
open (requests are due at random moments, whatever the answers do). In an open loop the
time of an answer counts from the moment its request was due, as a user would count it.
"""

import asyncio
import gc
import math
import random
import re
import sys
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import NamedTuple, cast

from bench.serving import BenchError

if sys.platform == "win32":  # where there is no uvloop
    from asyncio import run
else:
    from uvloop import run

OK, REFUSED = 200, 503
UNSENT = 0  # no connection was free when the request was due
LOST = -1  # the connection broke, or no answer came

TICK = 0.001  # seconds between looks at what is due
PATIENCE = 60.0  # seconds to wait for the last answers
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Answer(NamedTuple):
    """What came of a request: when it was due, its status, and seconds until then."""

    due: float
    status: int
    seconds: float


@dataclass(frozen=True)
class Result:
    """What came of a load; `busy` is the share of a CPU that making it took."""

    answers: list[Answer]
    seconds: float
    busy: float

    def rate(self, status: int = OK) -> float:
        """Answers of this status a second."""
        return len(self.latencies(status)) / self.seconds

    def latencies(self, status: int = OK) -> list[float]:
        """The seconds of the answers of this status, in order."""
        return sorted(a.seconds for a in self.answers if a.status == status)

    def quantile(self, share: float, status: int = OK) -> float:
        """The seconds within which this share was answered; NaN without answers."""
        return quantile(self.latencies(status), share)

    def statuses(self) -> Counter[int]:
        """How many requests came to each status."""
        return Counter(answer.status for answer in self.answers)


def named(statuses: Mapping[int, int]) -> str:
    """How many requests came to each status, in words."""
    words = {UNSENT: "not sent", LOST: "lost"}
    return ", ".join(
        f"{count:,} {words.get(status, f'of status {status}')}"
        for status, count in sorted(statuses.items())
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that is not below this share; NaN of nothing."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def request(body: bytes) -> bytes:
    """A request for predictions, as it goes over the wire."""
    head = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def closed_loop(
    port: int, requests: Sequence[bytes], connections: int, seconds: float
) -> Result:
    """Every connection asks, waits for its answer and asks again."""

    async def drive(pool: "_Pool") -> None:
        end = pool.now() + seconds

        def again(connection: "_Connection") -> None:
            if pool.now() < end:
                connection.send(pool.now())
            else:
                pool.park(connection)

        pool.on_free = again
        for connection in pool.take_all():
            again(connection)
        await asyncio.sleep(seconds)

    return run(_run(port, requests, connections, drive))


def open_loop(
    port: int,
    requests: Sequence[bytes],
    connections: int,
    phases: Sequence[tuple[float, float]],
    most_waiting: float = math.inf,
) -> Result:
    """Requests are due at random moments, at a rate: phases are (rate, seconds).

    At most `most_waiting` that are due wait for a free connection; the rest is UNSENT.
    """

    async def drive(pool: "_Pool") -> None:
        waiting: deque[float] = deque()

        def next_one(connection: "_Connection") -> None:
            if waiting:
                connection.send(waiting.popleft())
            else:
                pool.park(connection)

        pool.on_free = next_one
        for due in _moments(phases):
            while due > pool.now():
                await asyncio.sleep(TICK)
            if connection := pool.take():
                connection.send(due)
            elif len(waiting) < most_waiting:
                waiting.append(due)
            else:
                pool.answers.append(Answer(due, UNSENT, 0.0))
        while waiting and pool.now() < _length(phases) + PATIENCE:
            await asyncio.sleep(TICK)
        pool.answers += [Answer(due, UNSENT, 0.0) for due in waiting]
        waiting.clear()

    return run(_run(port, requests, connections, drive))


def _length(phases: Sequence[tuple[float, float]]) -> float:
    return sum(seconds for _, seconds in phases)


def _moments(phases: Sequence[tuple[float, float]]) -> Iterator[float]:
    """When requests are due: independent of each other, as those of many users."""
    chance = random.Random(0)
    start = 0.0
    for rate, seconds in phases:
        due = start + chance.expovariate(rate)
        while due < start + seconds:
            yield due
            due += chance.expovariate(rate)
        start += seconds


class _Pool:
    """The connections: those that are free, and what came of the others' requests."""

    def __init__(self, port: int, requests: Sequence[bytes]) -> None:
        self.answers: list[Answer] = []
        self.on_free: Callable[[_Connection], None] = self.park
        self.requests = cycle(requests)
        self.open = True
        self._port = port
        self._free: deque[_Connection] = deque()
        self._all: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._start = time.perf_counter()

    def now(self) -> float:
        """Seconds since the load began."""
        return time.perf_counter() - self._start

    def restart(self) -> None:
        """The load begins now."""
        self._start = time.perf_counter()

    async def connect(self) -> None:
        """Open one more connection. Raises OSError."""
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: _Connection(self), "127.0.0.1", self._port)

    def opened(self, connection: "_Connection") -> None:
        """It can be asked on."""
        self._all.add(connection)
        self.on_free(connection)

    def lost(self, connection: "_Connection") -> None:
        """It was closed: another takes its place."""
        self._all.discard(connection)
        if connection in self._free:
            self._free.remove(connection)
        if self.open:
            task = asyncio.ensure_future(self._reconnect())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _reconnect(self) -> None:
        while self.open:
            try:
                return await self.connect()
            except OSError:  # the server is too busy, or gone
                await asyncio.sleep(0.1)

    def park(self, connection: "_Connection") -> None:
        """It is free."""
        self._free.append(connection)

    def take(self) -> "_Connection | None":
        """The connection that has been free the longest, if there is one."""
        return self._free.popleft() if self._free else None

    def take_all(self) -> list["_Connection"]:
        """All that are free."""
        taken = list(self._free)
        self._free.clear()
        return taken

    @property
    def busy(self) -> bool:
        """Whether an answer is still to come."""
        return len(self._free) < len(self._all)

    def close(self) -> None:
        """Close all connections; what is unanswered is LOST."""
        self.open = False
        for connection in list(self._all):
            connection.close()


class _Connection(asyncio.Protocol):
    """One connection with at most one request on its way."""

    def __init__(self, pool: _Pool) -> None:
        self._pool = pool
        self._due: float | None = None
        self._head = b""
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._pool.opened(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self._due is not None:
            self._finish(LOST)
        self._pool.lost(self)

    def send(self, due: float) -> None:
        """Ask; `due` is when the request should have been sent."""
        self._due = due
        self._transport.write(next(self._pool.requests))

    def close(self) -> None:
        """Leave."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._missing:  # more of the body
            self._missing -= len(data)
        else:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            length = LENGTH.search(self._head, 0, end + 2) if end >= 0 else None
            if length is None:
                return
            self._missing = end + 4 + int(length[1]) - len(self._head)
        if self._missing:
            return
        status = int(self._head[9:12])
        self._head = b""
        self._finish(status)
        self._pool.on_free(self)

    def _finish(self, status: int) -> None:
        assert self._due is not None
        now = self._pool.now()
        self._pool.answers.append(Answer(self._due, status, now - self._due))
        self._due = None


async def _run(
    port: int,
    requests: Sequence[bytes],
    connections: int,
    drive: Callable[[_Pool], Awaitable[None]],
) -> Result:
    """Open the connections, let the load run, wait for the last answers.

    Raises BenchError if nothing listens.
    """
    pool = _Pool(port, requests)
    try:
        for _ in range(connections):
            await pool.connect()
    except OSError as error:
        raise BenchError(
            f"Port {port} takes no connection ({error}): has the server ended?"
        ) from None
    used = time.process_time()
    gc.disable()  # a collection here would show as latency there
    pool.restart()

    await drive(pool)

    last = pool.now() + PATIENCE
    while pool.busy and pool.now() < last:
        await asyncio.sleep(TICK)
    seconds = pool.now()
    gc.enable()
    busy = (time.process_time() - used) / seconds
    pool.close()
    await asyncio.sleep(0)
    return Result(pool.answers, seconds, busy)
