"""One connection of a client: uvicorn's HTTP protocol, with bounds.

uvicorn parses with httptools and bounds neither heads nor pipelines nor the time of a
client. `Protocol` overrides its internals:
https://github.com/Kludex/uvicorn/blob/main/uvicorn/protocols/http/httptools_impl.py

- A head (request line, fields, framing of chunks, trailers) has a size and a time.
- A few requests of a few bytes are parsed ahead. Reading pauses beyond them.
- The next request starts once the client takes the answers before it.
- Invalid HTTP is answered with a problem document, after the requests before it.
- A connection that ends while its client still sends is closed in two steps (RFC 9112,
  section 9.6): to close it with unread data would reset it and lose the answer.
- Reading pauses if a client ignores Retry-After, because rejections take CPU time that
  other requests need.
"""

import asyncio
import math
from collections import deque
from typing import Any, Literal
from urllib.parse import unquote

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, parse_url
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving.admission import compute_pause
from serving.connections import Connections
from serving.exchange import Exchange, Flow, HeadBuffer, UnchunkedExchange
from serving.problems import (
    HEAD_TIMEOUT,
    HEAD_TOO_LARGE,
    INVALID_HTTP,
    TARGET_TOO_LONG,
    UNKNOWN_CODING,
    ProblemError,
    ProblemType,
    problem_response,
)
from serving.requests import REJECTED, make_id

# Received data is parsed in pieces of this size, so that bounds are seen in time.
PIECE_BYTES = 2_048
CHUNK_BYTES = 32  # the framing of a chunk that does not count as a head
FIELD_BYTES = 128  # memory that Python needs for a header field, besides its text

# Reasons to hold the flow.
QUEUE = "queue"
RETRY = "retry"

# Header fields that decide where a request ends or how it is answered.
SPECIAL = frozenset({b"expect", b"host", b"transfer-encoding"})

HTTP = b" HTTP/"  # comes after the target in a request line
VERSION = b"P/1."  # in every request line that the parser accepts, even of RTSP
END = b"\n\r\n"  # the end of every head, and of every body in chunks
LINE_BYTES = len(b"GET / HTT")  # the shortest text before VERSION


class Protocol(HttpToolsProtocol):
    """One connection of a client."""

    flow: Flow

    def __init__(self, connections: Connections, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._connections = connections
        self._settings = connections.settings
        self.parser = HttpRequestParser(self)  # uvicorn's takes data after a close
        self.pipeline: deque[Exchange] = deque()  # type: ignore[assignment]
        self.since = connections.now
        # The request being answered; uvicorn's `cycle` is the one parsed last.
        self._active: Exchange | None = None

        # Where the parser is: before a message, in its head or in its body.
        self._place: Literal["before", "head", "body"] = "before"
        self._began = 0  # messages that began in the piece that was parsed last
        self._head_bytes = 0  # of this head or the framing of this body, at least
        self._body_bytes = 0  # of this body
        self._hosts = 0
        self._codings: list[bytes] = []
        self._replays = False  # whether this head will be parsed again
        self._start_text = b""  # of the head that comes, at least its request line

        self._unparsed = memoryview(b"")
        self._closed_by_client = False
        self._final = False  # the last request of the connection was parsed
        self._failure: ProblemError | None = None  # answers what follows the pipeline
        self._lingering = False
        self._excess = 0  # bytes that were discarded
        self._last_unsent = 0
        self._unsent_since = 0  # the tick at which `unsent` last changed
        self._rejected_at = -math.inf

    # Called by the event loop.

    def connection_made(  # type: ignore[override]
        self, transport: asyncio.Transport
    ) -> None:
        """Add the connection to those of the process."""
        super().connection_made(transport)
        self._connection = transport
        self._buffer = HeadBuffer(transport, self._end)
        self.transport = self._buffer  # type: ignore[assignment]
        self.flow = Flow(transport)
        opened = transport.get_extra_info("socket")
        descriptor = opened.fileno() if opened else -1
        self._connections.add(self, descriptor, self.loop)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request in work that the client has left, and drop the others."""
        self._connections.remove(self)
        self.pipeline.clear()
        self._unparsed = memoryview(b"")
        if self._active:
            self._active.abandon()
        super().connection_lost(exc)
        self._active = None
        self._forget_exchange()

    def data_received(self, data: bytes) -> None:
        """Parse data, as far as the pipeline has room for its requests."""
        if self._ignores_input:
            self._discard(len(data))
        elif not self._unparsed and self._is_one_piece(data):
            self._parse(data)
            if self.pipeline and self._is_full:
                self.flow.hold(QUEUE)
        else:
            self._unparsed = memoryview(bytes(self._unparsed) + data)
            self._parse_on()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection open for answers to the requests that are complete."""
        self._closed_by_client = True
        if self._lingering:
            return False
        if not self._unparsed:
            self._drop_incomplete()
        if self._active and self._active.disconnected:
            return False
        waiting = [self._active, *self.pipeline] if self._active else self.pipeline
        for exchange in waiting:
            exchange.leave()
        return bool(waiting)

    def resume_writing(self) -> None:
        """Start the next request: the client takes its answers."""
        super().resume_writing()
        if not (self._active or self._lingering or self._connection.is_closing()):
            self._go_on()

    # Called by the parser.

    def on_message_begin(self) -> None:
        """Begin the head of a request."""
        if self._final:
            raise HttpParserError("Data after the last request")
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._place = "head"
        self._began += 1
        self._head_bytes = self._hosts = 0
        self._codings = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a field of the head. Trailers are ignored."""
        name = name.lower()
        if name in SPECIAL:
            if name == b"host":
                self._hosts += 1
            elif name == b"expect":
                self.expect_100_continue = value.lower() == b"100-continue"
            else:
                self._codings.append(value.lower())
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Start the request, or let it wait for those before it."""
        parser = self.parser
        method = parser.get_method()
        version = parser.get_http_version()
        self._check_head(method, version)
        self._replays = parser.should_upgrade()
        if self._replays:
            return
        # llhttp also takes RTSP, and several spaces in place of one:
        # https://github.com/nodejs/llhttp/blob/main/src/llhttp/http.ts
        text, end = self._start_text, len(method) + 1 + len(self.url)
        if not (
            text.startswith(HTTP, end)
            or text.lstrip(b"\r\n").startswith(HTTP, end)  # after empty lines
        ):
            raise ProblemError(
                INVALID_HTTP,
                "The request line is not `METHOD TARGET HTTP/1.1` with single spaces.",
            )
        self._start_text = b""

        url = parse_url(self.url)
        raw_path = url.path or b"/"
        path = raw_path.decode("ascii")
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "method": method.decode("ascii"),
            "root_path": self.root_path,
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": url.query or b"",
            "headers": self.headers,
            "state": self.app_state.copy(),
        }

        self._place = "body"
        self._head_bytes = self._body_bytes = 0
        self.headers = []  # trailers are no headers of this request
        keep_alive = version != "1.0" and parser.should_keep_alive()
        make = Exchange if version == "1.1" else UnchunkedExchange
        exchange = self.cycle = make(
            scope=scope,  # type: ignore[arg-type]
            transport=self._buffer,  # type: ignore[arg-type]
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue and version != "1.0",
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )
        if not keep_alive:
            exchange.persistent = False
        if exchange.waiting_for_100_continue:
            exchange.close_without_body()
        if self._closed_by_client:
            exchange.leave()
        if not (self._active or self.pipeline or self.flow.write_paused):
            self._start(exchange)
        else:
            fields = scope["headers"]
            exchange.head_bytes = len(self.url) + FIELD_BYTES * len(fields)
            exchange.head_bytes += sum(len(name) + len(value) for name, value in fields)
            self.pipeline.append(exchange)

    def on_body(self, body: bytes) -> None:
        """Add to the body, unless the request has been answered."""
        exchange = self.cycle
        self._body_bytes += len(body)
        if exchange.response_complete:
            return
        exchange.body += body
        if len(exchange.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        exchange.message_event.set()

    def on_chunk_header(self) -> None:
        """Count the size line of a chunk as body, up to `CHUNK_BYTES`, not as head."""
        self._body_bytes += CHUNK_BYTES

    def on_message_complete(self) -> None:
        """Complete the request, unless the head will be parsed again."""
        if self._replays:
            return
        exchange: Exchange = self.cycle  # type: ignore[assignment]
        self._place = "before"
        self._final = not exchange.persistent
        exchange.complete()
        if exchange.response_complete:
            self._excess = 0
            self.since = self._connections.now
            self._forget_exchange()

    # Called when a response is complete, and each second.

    def on_response_complete(self) -> None:
        """Send a held head, and go on with the next request."""
        self.server_state.total_requests += 1
        self._buffer.release()
        exchange, self._active = self._active, None
        self.since = self._connections.now
        if exchange is self.cycle and self._place != "body":
            self._forget_exchange()
        if exchange is None or self._lingering or self._connection.is_closing():
            return
        if REJECTED in exchange.scope:
            self._pause_if_eager()
        self.flow.resume_reading()
        self._go_on()

    def check(self, now: int) -> None:
        """End the connection if the client has made no progress for too long."""
        settings = self._settings
        unsent = self.unsent
        if unsent != self._last_unsent:
            self._last_unsent, self._unsent_since = unsent, now
        elif unsent and now - self._unsent_since > settings.write_seconds:
            self._connections.record_end("write")
            self._connection.abort()
            return

        age = now - self.since
        # The body of a request that has been answered is still arriving.
        goes_on = self._place == "body" and self.cycle.response_complete
        if self._lingering or (self._active is None and goes_on):
            if age > settings.linger_seconds:
                self._connections.record_end("linger")
                self._connection.abort()
        elif self._active or self.pipeline or self._connection.is_closing():
            return
        elif self._place == "before" and age > settings.keep_alive_seconds:
            self._connection.close()
        elif self._place == "head" and age > settings.head_seconds:
            self._fail(
                HEAD_TIMEOUT,
                f"The head did not arrive within {settings.head_seconds} s.",
            )

    @property
    def idle(self) -> bool:
        """Whether no request is in work."""
        return self._active is None

    @property
    def waits(self) -> bool:
        """Whether the client has not sent all of the request, or takes no answer."""
        is_incomplete = self._place == "body" and self._active is self.cycle
        return is_incomplete or self.unsent > 0

    @property
    def unsent(self) -> int:
        """Bytes of answers that the client has not taken."""
        return self._connection.get_write_buffer_size()

    def evict(self) -> None:
        """Close the connection at once, to make room for another."""
        self._connection.abort()

    def shutdown(self) -> None:
        """End the connection, after the request in work if there is one."""
        if self._active:
            exchange: Exchange = self.cycle  # type: ignore[assignment]
            exchange.end_after()
            self._final = self._final or self._place == "before"
        elif not self._lingering:
            self._connection.close()

    # Parsing.

    @property
    def _ignores_input(self) -> bool:
        return self._final or self._lingering or self._failure is not None

    @property
    def _is_full(self) -> bool:
        """Whether the requests that wait for their turn are too many or too large."""
        settings, waiting = self._settings, self.pipeline
        return len(waiting) > settings.max_pipeline or (
            sum(each.head_bytes + len(each.body) for each in waiting)
            > settings.max_head_bytes
        )

    def _parse_on(self) -> None:
        """Parse what was received, in pieces, until the pipeline is full."""
        data, position = self._unparsed, 0
        while position < len(data) and not self._is_full:
            piece = self._cut(data[position:])
            self._parse(piece)
            position += len(piece)
            if self._ignores_input:
                self._discard(len(data[position:]))
                position = len(data)
        # An empty slice of a memoryview would keep all of the data in memory.
        self._unparsed = data[position:] if position < len(data) else memoryview(b"")
        if self._unparsed or self._is_full:
            self.flow.hold(QUEUE)
        else:
            self.flow.release(QUEUE)

    def _is_one_piece(self, data: bytes) -> bool:
        """Return whether `_cut` has nothing to cut, as with most data."""
        if self._place == "before":
            # The head of one request, with all or some of its body.
            is_one = data.rfind(b"\r") == data.find(END) + 1
            return is_one and len(data) <= PIECE_BYTES
        return self._place == "body" and len(data) <= self._missing_body()

    def _cut(self, data: memoryview) -> bytes | memoryview:
        """Return the first piece of the data. A request begins only at its start.

        The parser does not tell where in a piece a request begins, and its line is
        checked. So a piece ends with a head or a body; one with chunks, before each
        line that may be that of a request. Empty lines may come first.
        """
        if missing := self._missing_body():
            return data[:missing]
        piece = bytes(data[:PIECE_BYTES])
        if self._place == "body":  # in chunks
            version = piece.find(VERSION, piece.find(b"\n") + LINE_BYTES)
            end = piece.rfind(b"\n", 0, max(version, 0))
        elif self._place == "head" and piece.startswith((b"\n", b"\r\n")):
            end = piece.find(b"\n")  # the end of the head may have come in two parts
        else:
            text = piece.lstrip(b"\r\n") if self._place == "before" else piece
            end = piece.find(END, len(piece) - len(text))
            end += len(END) - 1 if end >= 0 else 0
        return piece[: end + 1] or piece

    def _parse(self, piece: bytes | memoryview) -> None:
        """Parse a piece. A head with `Upgrade` is parsed again, without that field.

        A server may ignore requests to upgrade (RFC 9110, section 7.8), and Java's
        client asks for HTTP/2 each time. uvicorn would parse the body of such a request
        as the next request.
        """
        place, body_bytes = self._place, self._body_bytes
        if place == "before":
            self._start_text = piece  # type: ignore[assignment]  # it is bytes here
        elif place == "head" and b"\n" not in self._start_text:
            self._start_text += piece
        self._began = 0
        error = self._feed(piece)
        if error and isinstance(error, HttpParserUpgrade):
            head = self._head_without_upgrade()
            rest = memoryview(piece)[error.args[0] :]
            # A parser that has seen `Connection: close` takes no more data.
            self.parser = HttpRequestParser(self)
            self._began -= 1
            error = self._feed(head) or self._feed(rest)
        if error:
            self._refuse(error)
            return
        if self._place == "before" or self._began:
            if self._began and self._place == "head":
                self.since = self._connections.now
                self._start_text = self._find_start(bytes(piece), place)
            return
        if place == self._place:
            self._count(len(piece), self._body_bytes - body_bytes)

    def _feed(self, data: bytes | memoryview) -> Exception | None:
        """Parse data and return the error, if there is one."""
        try:
            self.parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            return error
        return None

    def _count(self, size: int, body: int) -> None:
        """Count a piece that neither began nor completed a head."""
        if self._place == "body":
            size = max(0, size - body)
            if self._active is None and self.cycle.response_complete:
                self._discard(body)
        self._head_bytes += size
        if self._head_bytes > self._settings.max_head_bytes:
            self._fail(*self._describe_excess())
        elif len(self.headers) > self._settings.max_headers:
            self._fail(*self._describe_excess())

    def _check_head(self, method: bytes, version: str) -> None:
        """Raise ProblemError for a head that is not to be served."""
        settings = self._settings
        if len(self.headers) > settings.max_headers:
            raise ProblemError(*self._describe_excess())
        if self._head_bytes + 2 * PIECE_BYTES > settings.max_head_bytes:
            fields = sum(len(name) + len(value) for name, value in self.headers)
            if len(self.url) + fields > settings.max_head_bytes:
                raise ProblemError(*self._describe_excess())
        if version not in ("1.0", "1.1"):
            raise ProblemError(INVALID_HTTP, "The version is not HTTP/1.1.")
        if self._hosts != 1 and (self._hosts or version == "1.1"):
            raise ProblemError(INVALID_HTTP, "There must be one header field Host.")
        if self._codings and self._codings != [b"chunked"]:
            raise ProblemError(
                UNKNOWN_CODING, "The only Transfer-Encoding is `chunked`."
            )
        if method == b"CONNECT":
            raise ProblemError(INVALID_HTTP, "This is no proxy: CONNECT is not served.")

    def _find_start(self, piece: bytes, place: str) -> bytes:
        """Return what a piece has of the head that has begun in it, and not ended."""
        if place == "body":  # in chunks; the request line has not ended
            return piece.rpartition(b"\n")[2]
        if self._began == 1:
            return piece.lstrip(b"\r\n")
        # `_is_one_piece` takes a request and the beginning of this head for one piece:
        # the first `END` ends the head of that request, and its body follows.
        return piece[piece.find(END) + len(END) + self._body_bytes :].lstrip(b"\r\n")

    def _describe_excess(self) -> tuple[ProblemType, str]:
        settings = self._settings
        if len(self.headers) > settings.max_headers:
            return HEAD_TOO_LARGE, f"There are over {settings.max_headers} fields."
        limit = f"is larger than {settings.max_head_bytes} bytes."
        if len(self.url) > settings.max_head_bytes // 2:
            return TARGET_TOO_LONG, f"The request line {limit}"
        return HEAD_TOO_LARGE, f"The head of the request {limit}"

    def _missing_body(self) -> int:
        """Return the bytes of the body that have not come; 0 if that is not known."""
        if self._place != "body":
            return 0
        for name, value in self.cycle.scope["headers"]:
            if name == b"content-length":
                return max(0, int(value[:20]) - self._body_bytes)
        return 0

    def _head_without_upgrade(self) -> bytes:
        parser = self.parser
        version = parser.get_http_version().encode()
        lines = [parser.get_method() + b" " + self.url + b" HTTP/" + version]
        lines += [
            name + b": " + value for name, value in self.headers if name != b"upgrade"
        ]
        return b"\r\n".join([*lines, b"", b""])

    # Order of requests and the end.

    def _start(self, exchange: Exchange) -> None:
        self._active = exchange
        self._start_asgi_task(exchange, self.app)

    def _go_on(self) -> None:
        """Start the next request, or end the connection if there will be none."""
        if self.flow.write_paused:
            return
        if self.pipeline:
            self._start(self.pipeline.popleft())
        if self._unparsed:
            self._parse_on()
            if self._closed_by_client and not self._unparsed:
                self._drop_incomplete()
        elif self.flow.read_paused and not self._is_full:
            self.flow.release(QUEUE)
        if self._active:
            return
        if self._failure:
            self._send_failure(self._failure)
        elif self._closed_by_client:
            self._end()

    def _forget_exchange(self) -> None:
        """Forget a complete request, so that an idle connection keeps no body."""
        self.cycle = None  # type: ignore[assignment]

    def _drop_incomplete(self) -> None:
        """Drop a request that the client has left incomplete."""
        if self._place == "body" and not self.cycle.response_complete:
            if self.pipeline and self.pipeline[-1] is self.cycle:
                self.pipeline.pop()
            else:
                self.cycle.abandon()  # type: ignore[attr-defined]

    def _refuse(self, error: Exception) -> None:
        """Fail because of data that cannot be parsed."""
        cause = error.__context__  # what a callback raised; httptools sets it
        if self._final:  # data after the last request; it is ignored
            self._excess += 1
        elif isinstance(cause, ProblemError):
            self._fail(cause.type, str(cause.detail))
        elif cause:  # of `parse_url`
            self._fail(INVALID_HTTP, "The target of the request is not valid.")
        else:
            self._fail(INVALID_HTTP, f"The request is not valid HTTP/1.1: {error}.")

    def _fail(self, type_: ProblemType, detail: str) -> None:
        """Answer what came before, then with a problem, then end the connection."""
        self._failure = ProblemError(type_, detail, headers={"Connection": "close"})
        self._connections.record_end(type_.name)
        self._unparsed = memoryview(b"")
        if self._place == "body":
            answered = self.cycle.response_started
            self._drop_incomplete()
            if answered:  # a second response would be read as part of the first
                self._active = None
                self._end()
                return
            if self._active is self.cycle:
                self._active = None
        if self._active is None and not self.pipeline:
            self._send_failure(self._failure)

    def _send_failure(self, failure: ProblemError) -> None:
        response = problem_response(failure)
        request_id = make_id()
        head = [
            *self.server_state.default_headers,
            *response.raw_headers,
            (b"x-request-id", request_id.encode("ascii")),
        ]
        lines = [name + b": " + value + b"\r\n" for name, value in head]
        content = [STATUS_LINE[failure.status_code], *lines, b"\r\n", response.body]
        self._connection.write(b"".join(map(bytes, content)))
        self._connections.record_response(failure.status_code, request_id)
        self._end()

    def _end(self) -> None:
        """Close the connection, in two steps if the client may still be sending."""
        if self._lingering or self._connection.is_closing():
            return
        may_send = (
            self._place != "before"
            or self._failure
            or self._excess
            or self._unparsed
            or self.flow.read_paused
        )
        self.pipeline.clear()
        self._unparsed = memoryview(b"")
        if self._closed_by_client or not may_send:
            self._connection.close()
            return
        self._lingering = True
        self._excess = 0
        self.since = self._connections.now
        self._connection.write_eof()
        self.flow.release(QUEUE)
        self.flow.release(RETRY)

    def _discard(self, size: int) -> None:
        """Count data that is ignored. Close the connection if it is too much."""
        self._excess += size
        if self._excess > self._settings.linger_bytes:
            self._connections.record_end("linger")
            self._connection.abort()

    def _pause_if_eager(self) -> None:
        """Stop reading for a while if the client ignored Retry-After."""
        now = self.loop.time()
        pause = compute_pause(self._rejected_at, now)
        if pause:
            self.flow.hold(RETRY)
            self.loop.call_later(pause, self.flow.release, RETRY)
        self._rejected_at = now
