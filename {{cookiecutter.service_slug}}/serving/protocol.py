"""uvicorn's HTTP protocol, with the head of an answer in the same packet as its body.

uvicorn writes the head as soon as the application has given it. A system call and a
packet more cost an answer about a tenth of its time. The specification of ASGI even
asks a server to hold the head until the body begins.

A connection that is turned away again within the second that Retry-After asked it to
wait is not read from for a moment: refusing, too, takes time, which others need.
"""

import asyncio
import math
from typing import Any

from httptools import HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.admission import pause_after_rejection
from serving.requests import REJECTED

HEAD = b"HTTP/1.1 "
CONTINUE = b"HTTP/1.1 100 "  # asks the client for the body: nothing follows it


class HeadHolder:
    """A transport that keeps the head of an answer until the next write or the end."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send the data behind a head that is held, or hold it if it is one."""
        if self._head:
            self._transport.write(self._head + data)
            self._head = b""
        elif data.startswith(HEAD) and not data.startswith(CONTINUE):
            self._head = data
        else:
            self._transport.write(data)

    def release(self) -> None:
        """Send a head that no body follows."""
        if self._head:
            self.write(b"")

    def close(self) -> None:
        """Close the connection once everything is sent."""
        self.release()
        self._transport.close()


class Parser(HttpRequestParser):
    """Reads a request that would rather speak another protocol as if it would not.

    HTTP leaves that to a server (RFC 9110, section 7.8), and Java's client asks for
    HTTP/2 each time. uvicorn would take the body of such a request for the next one.
    """

    def __init__(self, protocol: "Protocol") -> None:
        super().__init__(protocol)
        self._protocol = protocol

    def feed_data(self, data: bytes | memoryview) -> None:  # type: ignore[override]
        """Read what came; a head that asks for another protocol again, without that."""
        while data:
            try:
                super().feed_data(data)
                return
            except HttpParserUpgrade as upgrade:
                if not self._protocol.reads_again:
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
        self.reads_again = False

    def on_headers_complete(self) -> None:
        """Begin to answer, unless the request will be read once more."""
        parser = self.parser
        self.reads_again = parser.should_upgrade() and parser.get_method() != b"CONNECT"
        if not self.reads_again:
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Take the body as complete, unless the request will be read once more."""
        if not self.reads_again:
            super().on_message_complete()

    def connection_made(  # type: ignore[override]
        self, transport: asyncio.Transport
    ) -> None:
        """Put the holder between the answers and the connection."""
        super().connection_made(transport)
        self._holder = HeadHolder(transport)
        self.transport = self._holder  # type: ignore[assignment]
        self._rejected_at = -math.inf

    def on_response_complete(self) -> None:
        """Send what an answer without a body has left; pause a client that hurries."""
        self._holder.release()
        super().on_response_complete()
        if REJECTED not in self.scope:
            return
        now = self.loop.time()
        pause = pause_after_rejection(self._rejected_at, now)
        if pause and not self.transport.is_closing():
            self.flow.pause_reading()
            self.loop.call_later(pause, self._listen_again)
        self._rejected_at = now

    def _listen_again(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()
