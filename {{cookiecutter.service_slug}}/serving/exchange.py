"""A request and its response, and the transport on which the response is written.

The classes extend or replace those that uvicorn's protocol uses internally:
https://github.com/Kludex/uvicorn/blob/main/uvicorn/protocols/http/httptools_impl.py
"""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from serving.requests import ARRIVED, LEFT

HEAD = b"HTTP/1.1 "
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"  # asks for the body; nothing follows it


class HeadBuffer:
    """A transport that holds the head of a response until the next write or the end.

    uvicorn writes the head as soon as it gets it. The extra system call and packet cost
    about a tenth of the time of a response. The ASGI specification, too, asks servers
    to hold the head until the body begins.
    """

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
        elif data.startswith(HEAD) and data != CONTINUE:
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


class Flow(FlowControl):
    """uvicorn's flow control, which reads only if no reason to pause is left.

    uvicorn itself resumes reading for the body of one request while others wait.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self._reasons: set[str] = set()

    def hold(self, reason: str) -> None:
        """Pause reading until `release` of the same reason."""
        self._reasons.add(reason)
        self.pause_reading()

    def release(self, reason: str) -> None:
        """Remove a reason. Resume reading if it was the last."""
        if self.read_paused:
            self._reasons.discard(reason)
            self.resume_reading()

    def resume_reading(self) -> None:
        """Resume reading, unless there is a reason to pause."""
        if self.read_paused and not self._reasons:
            super().resume_reading()


class Exchange(RequestResponseCycle):
    """A request and its response.

    After a request with `Expect: 100-continue`, the connection stays open only if the
    body was asked for or has arrived. Otherwise the next bytes could be either the body
    or the next request. A client that has closed its side gets its answer.
    """

    persistent = True  # whether the client wants to keep the connection
    delivered = False  # the application has the whole body
    head_bytes = 0  # of a request that waits for its turn

    async def receive(self) -> ASGIReceiveEvent:
        """Return the next part of the body, or the disconnect of the client."""
        if self.waiting_for_100_continue and not self.disconnected:
            self.waiting_for_100_continue = False
            self.keep_alive = self.persistent
            self.transport.write(CONTINUE)
        while not (self.disconnected or self.response_complete):
            if not (self.more_body or self.delivered):
                break  # the whole body is there
            self.flow.resume_reading()
            await self.message_event.wait()
            self.message_event.clear()
            if not self.delivered:
                break
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body, self.body = bytes(self.body), bytearray()
        self.delivered = not self.more_body
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    def close_without_body(self) -> None:
        """Close the connection after the answer, unless the body comes."""
        self.keep_alive = False

    def complete(self) -> None:
        """Note that the whole request has arrived."""
        if self.waiting_for_100_continue:  # the body came without being asked for
            self.waiting_for_100_continue = False
            self.keep_alive = self.persistent
        self.more_body = False
        self.scope[ARRIVED] = True  # type: ignore[literal-required]
        self.message_event.set()

    def leave(self) -> None:
        """Note that the client has closed its side, after the whole request.

        The application is not told of a disconnect: a stream would end before its time.
        """
        self.scope[LEFT] = True  # type: ignore[literal-required]
        self.message_event.set()

    def abandon(self) -> None:
        """Tell the application that the client has left. Nothing more is written."""
        self.disconnected = True
        self.message_event.set()

    def end_after(self) -> None:
        """Close the connection after the response."""
        self.persistent = self.keep_alive = False


class UnchunkedExchange(Exchange):
    """An exchange with a client of HTTP/1.0, which does not know chunks.

    Without a Content-Length, the end of the connection is that of the body (RFC 9112,
    sections 6.1 and 6.3).
    """

    _ends_with_connection = False

    async def send(self, message: ASGISendEvent) -> None:
        """Send the head or a part of the body of the response."""
        if message["type"] == "http.response.start":
            headers = [
                (name, value)
                for name, value in message.get("headers", ())
                if name.lower() != b"transfer-encoding"
            ]
            message = {**message, "headers": headers}
            if b"content-length" not in {name.lower() for name, _ in headers}:
                self._ends_with_connection = True
                self.chunked_encoding = False
        elif message["type"] == "http.response.body" and self._ends_with_connection:
            # uvicorn compares what is sent with what it expects.
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)
