"""A connection in memory: what a client sends and gets, and how time passes."""

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn import Config
from uvicorn.server import ServerState

from serving.connections import Connections
from serving.protocol import Protocol
from serving.settings import ServingSettings

App = Callable[[Scope, Receive, Send], Awaitable[None]]
Request = tuple[str, bytes, bytes]  # method, target and body


class Wire(asyncio.Transport):
    """A transport that keeps what is written and does as the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.reading = True
        self.half_closed = False
        self.closed = False
        self.unsent = 0

    def write(self, data: bytes) -> None:  # type: ignore[override]
        assert not (self.half_closed or self.closed)
        self.writes.append(data)

    def write_eof(self) -> None:
        self.half_closed = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return self.unsent


class Recorder:
    """An application that reads each request, keeps it and answers 200."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.gate = asyncio.Event()  # no answer before it is set
        self.gate.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message["body"]
            more = message["more_body"]
        query = scope["query_string"]
        target = scope["raw_path"] + (b"?" + query if query else b"")
        self.requests.append((scope["method"], target, body))
        await self.gate.wait()
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})


class Line:
    """A client's connection to an application."""

    def __init__(
        self,
        app: App,
        loop: asyncio.AbstractEventLoop,
        connections: Connections | None = None,
        **settings: Any,
    ) -> None:
        self.ends: Counter[str] = Counter()
        self.loop = loop
        if connections is None:
            connections = Connections(
                ServingSettings(**settings), lambda reason: self.ends.update([reason])
            )
        self.connections = connections
        self.wire = Wire()
        config = Config(app, log_config=None, lifespan="off")
        config.load()
        self.protocol = Protocol(self.connections, config, ServerState(), {}, loop)
        self.protocol.connection_made(self.wire)
        self._lost = False

    def send(self, *parts: bytes) -> None:
        """Send data as far as the server reads it, and let it do what it can."""
        for part in parts:
            if not self.wire.closed:
                self.protocol.data_received(part)
            self.settle(10 if len(part) > 1 else 2)
        self.settle()

    def send_eof(self) -> None:
        """Close the client's side."""
        if not self.protocol.eof_received():
            self.wire.close()
        self.settle()

    def settle(self, turns: int = 10) -> None:
        """Let every task go as far as it can."""
        for _ in range(turns):
            self.loop.run_until_complete(asyncio.sleep(0))
        if self.wire.closed and not self._lost:
            self._lost = True
            self.protocol.connection_lost(None)
            self.settle()

    def pass_seconds(self, seconds: int) -> None:
        """Let time pass."""
        for _ in range(seconds):
            self.connections.tick(self.loop)
            self.settle(1)

    @property
    def answers(self) -> bytes:
        """Everything that was written."""
        return b"".join(self.wire.writes)

    @property
    def statuses(self) -> list[int]:
        """The status of each answer."""
        found = re.findall(rb"HTTP/1\.1 (\d{3}) ", self.answers)
        return [int(status) for status in found]

    @property
    def ended(self) -> bool:
        """Whether the client knows that nothing more will come."""
        return self.wire.closed or self.wire.half_closed
