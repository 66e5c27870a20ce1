"""The bytes on the wire: an answer is one packet, an eager client is paused."""

import asyncio
from collections.abc import Callable, Iterator
from contextvars import Context
from typing import Any

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from serving.admission import PAUSE_SECONDS
from serving.connections import Connections
from serving.exchange import HeadBuffer
from serving.problems import RETRY_AFTER
from serving.protocol import Protocol
from serving.requests import REJECTED
from serving.settings import ServingSettings

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


class Wire(asyncio.Transport):
    """A transport that keeps each write apart."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.reading = True

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.writes.append(data)

    def close(self) -> None:
        self.writes.append(b"closed")

    def is_closing(self) -> bool:
        return b"closed" in self.writes

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def buffer(wire: Wire) -> HeadBuffer:
    return HeadBuffer(wire, wire.close)


def test_the_head_goes_out_with_the_body(wire: Wire, buffer: HeadBuffer) -> None:
    for data in (HEAD, b"{}", HEAD, b"[]"):
        buffer.write(data)

    assert wire.writes == [HEAD + b"{}", HEAD + b"[]"]


def test_a_stream_goes_on_as_it_comes(wire: Wire, buffer: HeadBuffer) -> None:
    for data in (HEAD, b"a", b"b"):
        buffer.write(data)

    assert wire.writes == [HEAD + b"a", b"b"]


def test_a_head_without_a_body_goes_out_at_the_end(
    wire: Wire, buffer: HeadBuffer
) -> None:
    buffer.write(HEAD)
    assert not wire.writes

    buffer.release()
    buffer.release()
    buffer.write(HEAD)
    buffer.close()

    assert wire.writes == [HEAD, HEAD, b"closed"]


def test_a_client_that_waits_to_be_asked_for_the_body_is_asked(
    wire: Wire, buffer: HeadBuffer
) -> None:
    buffer.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    assert wire.writes == [b"HTTP/1.1 100 Continue\r\n\r\n"]


class Clock(asyncio.SelectorEventLoop):
    """An event loop whose time is set by the test; its timers run when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.timers: list[asyncio.TimerHandle] = []

    def time(self) -> float:
        return self.now

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        timer = super().call_at(when, callback, *args, context=context)
        self.timers.append(timer)
        return timer

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        for timer in [timer for timer in self.timers if timer.when() <= self.now]:
            self.timers.remove(timer)
            if not timer.cancelled():
                timer._run()


class Connection:
    """A connection whose requests are all rejected."""

    def __init__(self, wire: Wire, clock: Clock) -> None:
        async def reject(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
            scope[REJECTED] = True
            start = {"type": "http.response.start", "status": 503, "headers": []}
            await send(start)
            await send({"type": "http.response.body"})

        self.clock = clock
        config = Config(reject, log_config=None, lifespan="off")
        config.load()
        connections = Connections(ServingSettings())
        self.protocol = Protocol(connections, config, ServerState(), {}, self.clock)
        self.protocol.connection_made(wire)

    def ask(self) -> None:
        self.protocol.data_received(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.clock.run_until_complete(asyncio.sleep(0))
        self.clock.run_until_complete(asyncio.sleep(0))


@pytest.fixture
def connection(wire: Wire) -> Iterator[Connection]:
    clock = Clock()
    yield Connection(wire, clock)
    clock.close()


def test_a_client_that_is_rejected_once_is_read_from(
    wire: Wire, connection: Connection
) -> None:
    connection.ask()
    assert wire.reading

    connection.clock.pass_by(RETRY_AFTER)
    connection.ask()
    assert wire.reading


def test_a_client_that_does_not_wait_after_a_rejection_is_paused(
    wire: Wire, connection: Connection
) -> None:
    connection.ask()
    connection.ask()
    assert not wire.reading

    connection.clock.pass_by(PAUSE_SECONDS * 0.9)
    assert not wire.reading
    connection.clock.pass_by(PAUSE_SECONDS * 0.2)
    assert wire.reading


def test_thousands_that_ask_for_another_protocol_at_once_are_read(
    wire: Wire, connection: Connection
) -> None:
    one = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    connection.protocol.data_received(one * 3_000)
    for _ in range(3_000):
        connection.clock.run_until_complete(asyncio.sleep(0))

    assert sum(data.startswith(b"HTTP/1.1 503 ") for data in wire.writes) == 3_000
    assert not wire.is_closing()
