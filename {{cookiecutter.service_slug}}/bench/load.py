"""Generate load: prebuilt requests on kept-alive connections.

In a closed loop every connection sends its next request when the last one is answered:
this finds the highest rate. In an open loop requests are due at given moments, however
slow the answers are, and a latency counts from the moment the request was due: this is
what users see at a given rate.
"""

import asyncio
import gc
import math
import random
import re
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import NamedTuple, cast

from bench import BenchError

if sys.platform == "win32":  # uvloop does not run there
    from asyncio import run
else:
    from uvloop import run

OK, REJECTED = 200, 503
LOST = 0  # no answer came, or the connection broke before it was complete

TICK = 0.001  # seconds between two looks at the clock
PATIENCE = 60.0  # seconds to wait for the last answers
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Answer(NamedTuple):
    """When a request was due, its status, and the seconds from due to answered."""

    due: float
    status: int
    seconds: float


@dataclass(frozen=True)
class Result:
    """All answers to a load that took so many seconds."""

    answers: list[Answer]
    seconds: float

    @property
    def rate(self) -> float:
        """Return the successful answers a second."""
        return self.statuses()[OK] / self.seconds

    def quantile(self, share: float) -> float:
        """Return the latency that this share of the successful answers stays within.

        Raises IndexError if there is none.
        """
        latencies = sorted(a.seconds for a in self.answers if a.status == OK)
        return latencies[max(0, math.ceil(share * len(latencies)) - 1)]

    def statuses(self) -> Counter[int]:
        """Count the requests by status."""
        return Counter(answer.status for answer in self.answers)


def request(body: bytes, *headers: str) -> bytes:
    """Encode a request for predictions; headers are lines such as `Name: value`."""
    head = (
        "POST /v1/predict HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *headers,
    )
    return "\r\n".join((*head, "", "")).encode() + body


def arrivals(rate: float, seconds: float) -> Iterator[float]:
    """Yield random moments at this rate, independent of each other as users are."""
    chance = random.Random(0)
    due = chance.expovariate(rate)
    while due < seconds:
        yield due
        due += chance.expovariate(rate)


def closed_loop(
    port: int,
    requests: Sequence[bytes],
    connections: int,
    seconds: float,
    *,
    reconnect: bool = False,
) -> Result:
    """Send on every connection, one request at a time, until `seconds` have passed.

    With `reconnect`, each request has a connection of its own. Raises BenchError if
    nothing listens on the port.
    """
    return run(_Load(port, requests, reconnect).run(connections, seconds, ()))


def open_loop(
    port: int, requests: Sequence[bytes], connections: int, due: Iterable[float]
) -> Result:
    """Send a request at each moment of `due`: ascending, in seconds from the start.

    A request waits while no connection is free. Raises BenchError if nothing listens on
    the port.
    """
    return run(_Load(port, requests).run(connections, 0.0, due))


class _Load:
    """The connections that are idle, the requests that wait, and all answers so far."""

    def __init__(
        self, port: int, requests: Sequence[bytes], reconnect: bool = False
    ) -> None:
        self.reconnect = reconnect
        self.answers: list[Answer] = []
        self.requests = cycle(requests)
        self.in_flight = 0
        self.connections: set[_Connection] = set()
        self._port = port
        self._idle: deque[_Connection] = deque()
        self._waiting: deque[float] = deque()
        self._repeat_until = 0.0  # in a closed loop no connection is idle before
        self._tasks: list[asyncio.Task[None]] = []  # asyncio keeps weak references only
        self._closing = False
        self._began = time.perf_counter()

    def now(self) -> float:
        """Return the seconds since the load began."""
        return time.perf_counter() - self._began

    async def run(
        self, connections: int, repeat_until: float, due: Iterable[float]
    ) -> Result:
        """Open the connections, load the service, wait for the last answers."""
        for _ in range(connections):
            await self._connect()
        gc.disable()  # a collection here would show as latency there
        self._began = time.perf_counter()
        self._repeat_until = repeat_until
        for connection in [self._idle.popleft() for _ in range(len(self._idle))]:
            self.take(connection)
        for moment in due:
            while (rest := moment - self.now()) > 0:
                await asyncio.sleep(max(rest, TICK))
            self._waiting.append(moment)
            if self._idle:
                self.take(self._idle.popleft())
        await asyncio.sleep(repeat_until)
        last = self.now() + PATIENCE
        while (self.in_flight or self._waiting) and self.now() < last:
            await asyncio.sleep(TICK)
        seconds = self.now()
        gc.enable()
        self._closing = True
        for connection in list(self.connections):
            connection.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.answers += [Answer(moment, LOST, 0.0) for moment in self._waiting]
        return Result(self.answers, seconds)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(
                lambda: _Connection(self), "127.0.0.1", self._port
            )
        except OSError as error:
            raise BenchError(
                f"Port {self._port} takes no connection: {error}. Has the server ended?"
            ) from None

    def take(self, connection: "_Connection") -> None:
        """Send the next request on a connection that is free, if there is one."""
        if self._waiting:
            connection.send(self._waiting.popleft())
        elif self.now() < self._repeat_until:
            connection.send(self.now())
        else:
            self._idle.append(connection)

    def replace(self, connection: "_Connection") -> None:
        """Open another connection in place of one that was closed."""
        self.connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if not self._closing:
            self._tasks.append(asyncio.ensure_future(self._connect()))


class _Connection(asyncio.Protocol):
    """A connection with at most one request in flight."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._due: float | None = None
        self._head = b""
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._load.connections.add(self)
        self._load.take(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self._due is not None:
            self._finish(LOST)
        self._load.replace(self)

    def send(self, due: float) -> None:
        """Send the next request, which was due at this moment."""
        self._due = due
        self._load.in_flight += 1
        self._transport.write(next(self._load.requests))

    def close(self) -> None:
        """Close it at once, whatever is in flight."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._missing:  # more of the body
            self._missing -= len(data)
        else:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            length = CONTENT_LENGTH.search(self._head, 0, end + 2) if end >= 0 else None
            if length is None:
                return
            self._missing = end + 4 + int(length[1]) - len(self._head)
        if self._missing:
            return
        status = int(self._head[9:12])
        self._head = b""
        self._finish(status)
        if self._load.reconnect:
            self._transport.abort()
        else:
            self._load.take(self)

    def _finish(self, status: int) -> None:
        assert self._due is not None
        seconds = self._load.now() - self._due
        self._load.answers.append(Answer(self._due, status, seconds))
        self._load.in_flight -= 1
        self._due = None
