"""uvicorn's HTTP protocol, with the head and body of a response in one packet.

uvicorn writes the head as soon as it gets it. The extra system call and packet cost
about a tenth of the time of a response. The ASGI specification, too, asks servers to
hold the head until the body begins.

Reading from a connection pauses if it ignores Retry-After, because rejections take CPU
time that other requests need.

A connection that ends while its client still sends is closed in two steps (RFC 9112,
section 9.6): a close with unread data would reset it, and the client would lose the
answer.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Any

from httptools import HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.admission import compute_pause
from serving.requests import REJECTED

HEAD = b"HTTP/1.1 "
CONTINUE = b"HTTP/1.1 100 "  # asks for the body; nothing follows it

# After a last answer, what a client still sends is read and discarded up to these.
LINGER_SECONDS = 10.0
LINGER_BYTES = 67_108_864


class HeadBuffer:
    """A transport that holds the head of a response until the next write or the end."""

    def __init__(
        self, transport: asyncio.Transport, on_close: Callable[[], None]
    ) -> None:
        """Call `on_close`, which ends the connection, instead of closing it."""
        self._transport = transport
        self._on_close = on_close
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send the data, after a held head if there is one. Hold it if it is a head."""
        if self._head:
            self._transport.write(self._head + data)
            self._head = b""
        elif data.startswith(HEAD) and not data.startswith(CONTINUE):
            self._head = data
        else:
            self._transport.write(data)

    def release(self) -> None:
        """Send the held head of a response without a body."""
        if self._head:
            self.write(b"")

    def close(self) -> None:
        """Send a held head, then end the connection."""
        self.release()
        self._on_close()


class Parser(HttpRequestParser):
    """A parser that ignores requests to upgrade to another protocol.

    A server may ignore them (RFC 9110, section 7.8), and Java's client asks for HTTP/2
    each time. uvicorn would parse the body of such a request as the next request.
    """

    def __init__(self, protocol: "Protocol") -> None:
        super().__init__(protocol)
        self._protocol = protocol

    def feed_data(self, data: bytes | memoryview) -> None:  # type: ignore[override]
        """Parse data. Parse a head with `Upgrade` again, without that header."""
        while data:
            try:
                super().feed_data(data)
                return
            except HttpParserUpgrade as upgrade:
                if not self._protocol.ignores_upgrade:
                    raise
                (rest,) = upgrade.args
            super().feed_data(self._head())
            data = memoryview(data)[rest:]

    def _head(self) -> bytes:
        version = self.get_http_version().encode()
        lines = [self.get_method() + b" " + self._protocol.url + b" HTTP/" + version]
        lines += [
            name + b": " + value
            for name, value in self._protocol.headers
            if name != b"upgrade"
        ]
        return b"\r\n".join([*lines, b"", b""])


class Protocol(HttpToolsProtocol):
    """One connection of a client."""

    parser: Parser

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.parser = Parser(self)
        self.ignores_upgrade = False

    def on_headers_complete(self) -> None:
        """Start the request, unless its head will be parsed again."""
        parser = self.parser
        self.ignores_upgrade = (
            parser.should_upgrade() and parser.get_method() != b"CONNECT"
        )
        if not self.ignores_upgrade:
            super().on_headers_complete()
            self.headers = []  # trailers are no headers of this request

    def on_message_complete(self) -> None:
        """Complete the body, unless the head will be parsed again."""
        if not self.ignores_upgrade:
            super().on_message_complete()

    def connection_made(  # type: ignore[override]
        self, transport: asyncio.Transport
    ) -> None:
        """Put a `HeadBuffer` between the responses and the connection."""
        super().connection_made(transport)
        self._connection = transport
        self._buffer = HeadBuffer(transport, self._end)
        self.transport = self._buffer  # type: ignore[assignment]
        self._rejected_at = -math.inf
        self._discarded = 0
        self._deadline: asyncio.TimerHandle | None = None  # of a client that sends on

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline of a client that sends on."""
        super().connection_lost(exc)
        if self._deadline:
            self._deadline.cancel()

    def data_received(self, data: bytes) -> None:
        """Parse data. Discard it, within bounds, after the last answer."""
        if self._deadline is None:
            super().data_received(data)
            return
        self._discarded += len(data)
        if self._discarded > LINGER_BYTES:
            self._connection.close()

    def _end(self) -> None:
        """Close the connection, in two steps if the client may still be sending."""
        if self._deadline or self._connection.is_closing():
            return
        if self.cycle and not self.cycle.more_body:
            self._connection.close()
            return
        self._deadline = self.loop.call_later(LINGER_SECONDS, self._connection.close)
        self._connection.write_eof()
        self.flow.resume_reading()

    def on_response_complete(self) -> None:
        """Send a held head. Pause a client that ignored Retry-After."""
        self._buffer.release()
        super().on_response_complete()
        if REJECTED not in self.scope:
            return
        now = self.loop.time()
        pause = compute_pause(self._rejected_at, now)
        if pause and not self.transport.is_closing():
            self.flow.pause_reading()
            self.loop.call_later(pause, self._resume_reading)
        self._rejected_at = now

    def _resume_reading(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()
