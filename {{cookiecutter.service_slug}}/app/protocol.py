"""uvicorn's HTTP protocol, with the head of an answer in the same packet as its body.

uvicorn writes the head as soon as the application has given it. A system call and a
packet more cost an answer about a tenth of its time. The specification of ASGI even
asks a server to hold the head until the body begins.

A client that was turned away and asks again at once, though Retry-After told it to
wait, would take the time that the service needs to answer others.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.limits import REFUSED

PAUSE = 0.25  # seconds that a connection is not read from after a refusal
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


class Protocol(HttpToolsProtocol):
    """One connection of a client."""

    def connection_made(  # type: ignore[override]
        self, transport: asyncio.Transport
    ) -> None:
        """Put the holder between the answers and the connection."""
        super().connection_made(transport)
        self._holder = HeadHolder(transport)
        self.transport = self._holder  # type: ignore[assignment]

    def on_response_complete(self) -> None:
        """Send what an answer without a body has left; pause after a refusal."""
        self._holder.release()
        super().on_response_complete()
        if REFUSED in self.scope:
            self.flow.pause_reading()
            self.loop.call_later(PAUSE, self._listen_again)

    def _listen_again(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()
