"""What one connection may hold, how long it may take, and how it ends."""

import asyncio
import json
import logging
import socket
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import httpx2
import pytest
from starlette.responses import StreamingResponse

from serving.connections import Connections
from serving.protocol import PIECE_BYTES
from serving.settings import ServingSettings
from serving.testing import wait_until
from tests.conftest import Process, Start
from tests.serving.conftest import BODY, PATH
from tests.serving.line import Line, Recorder

LIMIT = 1_048_576
GET = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
MAX_HEAD = 8_192

Open = Callable[..., Line]


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs when the test says so."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def app() -> Recorder:
    """The application behind the connection."""
    return Recorder()


@pytest.fixture
def open_line(app: Recorder, loop: asyncio.AbstractEventLoop) -> Open:
    """`open_line(head_seconds=1)`: a connection with these settings."""
    return lambda **settings: Line(app, loop, **settings)


# Heads.


@pytest.mark.parametrize(
    ("start", "more", "status"),
    [
        (b"GET /", b"a", 414),
        (b"GET /?", b"a", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"a", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX", b"x", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX:", b" ", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", b"A:b\r\n", 431),
        (CHUNKED + b"5;", b"a", 431),
        (CHUNKED + b"2\r\n{}\r\n0\r\nX: ", b"a", 431),
        (CHUNKED + b"2\r\n{}\r\n0\r\n", b"A: b\r\n", 431),
        (POST + b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"a", 431),
    ],
    ids=[
        *("path", "query", "value", "name", "space", "fields"),
        *("chunk", "trailer", "trailers", "second"),
    ],
)
@pytest.mark.parametrize("step", [1_000, 262_144])
def test_a_head_without_an_end_is_rejected_at_the_bound(
    open_line: Open, start: bytes, more: bytes, status: int, step: int
) -> None:
    line = open_line(max_head_bytes=MAX_HEAD)
    sent = len(start)
    line.send(start)
    while not line.ended and sent < 64 * MAX_HEAD:
        line.send(more * (step // len(more)))
        sent += step

    assert line.statuses == (
        [200, status]
        if start[:1] == b"P" and more == b"a" and start.startswith(POST)
        else [status]
    )
    assert b"connection: close" in line.answers
    assert line.ended
    assert sent <= max(2 * MAX_HEAD, len(start) + step)
    assert line.ends.total() == 1


@pytest.mark.parametrize("gap", [-2 * PIECE_BYTES, -100, 100, PIECE_BYTES, 3_000])
@pytest.mark.parametrize("step", [1, 1_000, 100_000])
def test_a_head_over_the_bound_is_431_however_it_comes(
    open_line: Open, gap: int, step: int
) -> None:
    line = open_line(max_head_bytes=MAX_HEAD)
    fields = b"HostaX" + b"/"
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX: %s\r\n\r\n" % (
        b"x" * (MAX_HEAD + gap - len(fields))
    )
    if step == 1:
        line.protocol.settle = None  # type: ignore[attr-defined]
        for byte in head:
            if not line.ended:
                line.protocol.data_received(bytes([byte]))
        line.settle()
    else:
        line.send(*[head[at : at + step] for at in range(0, len(head), step)])

    assert line.statuses == ([200] if gap <= 0 else [431])


def test_a_request_with_too_many_fields_is_431(open_line: Open) -> None:
    for number, status in ((19, 200), (20, 431), (2_000, 431)):
        line = open_line(max_headers=20)
        fields = b"A:b\r\n" * number
        line.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n")
        assert line.statuses == [status]


def test_many_small_chunks_are_no_head(open_line: Open, app: Recorder) -> None:
    line = open_line(max_head_bytes=MAX_HEAD)
    line.send(CHUNKED + b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n")

    assert app.requests == [("POST", b"/", b"x" * 10_000)]
    assert line.statuses == [200]


def test_a_head_that_comes_byte_by_byte_ends_with_408(open_line: Open) -> None:
    line = open_line(head_seconds=3)
    line.send(GET)
    line.pass_seconds(30)
    for second in range(3):
        line.send(GET[second : second + 1])
        line.pass_seconds(1)
    assert not line.ended

    line.pass_seconds(1)

    assert line.statuses == [200, 408]
    assert line.ended
    assert line.ends == {"head-timeout": 1}


# Requests that are sent before the answer to the one before.


def test_a_pipeline_is_bounded_and_every_request_answered(
    open_line: Open, app: Recorder
) -> None:
    line = open_line(max_pipeline=4)
    app.gate.clear()
    line.send(POST * 3_000)
    most = 4 + PIECE_BYTES // len(POST) + 1

    assert not line.wire.reading
    assert len(line.protocol.pipeline) <= most
    line.protocol.flow.resume_reading()  # as uvicorn does for the body of the first
    assert not line.wire.reading

    app.gate.set()
    for _ in range(3_000):
        line.settle(3)
        assert len(line.protocol.pipeline) <= most
    assert line.statuses == [200] * 3_000
    assert app.requests == [("POST", b"/", b"body")] * 3_000
    assert line.wire.reading


@pytest.mark.parametrize("size", [1, 3_000], ids=["head", "body"])
@pytest.mark.parametrize("step", [1_000, 262_144])
def test_a_pipeline_is_bounded_in_bytes(
    open_line: Open, app: Recorder, size: int, step: int
) -> None:
    line = open_line(max_head_bytes=MAX_HEAD)
    app.gate.clear()
    fields = (b"A: " + b"b" * 100 + b"\r\n") * 20 if size == 1 else b""
    request = POST.replace(b"Content-Length: 4\r\n\r\nbody", fields)
    request += b"Content-Length: %d\r\n\r\n" % size + b"x" * size
    stream = request * 50
    sent = 0
    while line.wire.reading and sent < len(stream):
        line.send(stream[sent : sent + step])
        sent += step

    waiting = line.protocol.pipeline
    assert not line.wire.reading
    assert 1 < len(waiting) <= 6
    assert sum(len(each.body) for each in waiting) <= MAX_HEAD + PIECE_BYTES

    app.gate.set()
    line.send(stream[sent:])
    line.settle(500)
    assert line.statuses == [200] * 50
    assert line.wire.reading


def test_a_body_that_waits_for_its_turn_is_read_on_when_it_comes(
    open_line: Open, app: Recorder
) -> None:
    line = open_line(max_head_bytes=MAX_HEAD)
    app.gate.clear()
    size = 4 * MAX_HEAD
    line.send(POST, POST.replace(b": 4", b": %d" % size), bytes(2 * MAX_HEAD))
    assert not line.wire.reading

    app.gate.set()
    line.settle()
    assert line.wire.reading
    line.send(bytes(2 * MAX_HEAD - len(b"body")))
    assert line.statuses == [200, 200]
    assert len(app.requests[1][2]) == size


def test_no_request_begins_while_the_client_takes_no_answers(
    open_line: Open, app: Recorder
) -> None:
    line = open_line()
    line.send(POST)
    line.protocol.pause_writing()
    line.send(POST * 2)
    assert len(app.requests) == 1

    line.protocol.resume_writing()
    line.settle()
    assert line.statuses == [200] * 3


# Time.


def test_no_request_begins_while_another_is_in_work(
    open_line: Open, app: Recorder
) -> None:
    app.gate.clear()
    line = open_line()
    line.send(POST * 2)
    line.protocol.pause_writing()
    line.protocol.resume_writing()
    line.settle()
    assert len(app.requests) == 1

    app.gate.set()
    line.settle()
    assert line.statuses == [200] * 2


def test_a_client_that_takes_nothing_of_an_answer_is_cut_off(open_line: Open) -> None:
    line = open_line(write_seconds=3)
    line.send(POST)
    line.wire.unsent = 100
    line.pass_seconds(4)
    line.wire.unsent = 99
    line.pass_seconds(4)
    assert not line.wire.closed

    line.pass_seconds(1)

    assert line.wire.closed
    assert line.ends == {"write": 1}


def test_a_body_arrives_while_the_client_takes_the_answer_before_slowly(
    open_line: Open,
) -> None:
    line = open_line(linger_seconds=1, write_seconds=3)
    line.send(POST)
    line.protocol.pause_writing()
    line.send(POST[:-1])
    for unsent in range(5, 0, -1):
        line.wire.unsent = unsent
        line.pass_seconds(2)
    assert not line.wire.closed

    line.wire.unsent = 0
    line.protocol.resume_writing()
    line.send(POST[-1:])

    assert line.statuses == [200, 200]
    assert not line.ends


def test_a_request_whose_client_takes_nothing_ends(
    loop: asyncio.AbstractEventLoop,
) -> None:
    ended = asyncio.Event()

    async def stream(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        start = {"type": "http.response.start", "status": 200, "headers": []}
        await send(start)
        for _ in range(3):
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            line.protocol.pause_writing()
        ended.set()

    line = Line(stream, loop, write_seconds=1)
    line.send(GET)
    line.wire.unsent = 100
    assert not ended.is_set()

    line.pass_seconds(3)
    line.settle()

    assert ended.is_set()


def test_the_oldest_of_too_many_unsent_answers_is_cut_off(
    app: Recorder, loop: asyncio.AbstractEventLoop
) -> None:
    connections = Connections(ServingSettings(max_bytes_in_work=100))
    lines = [Line(app, loop, connections) for _ in range(4)]
    for line, unsent in zip(lines, [60, 0, 30, 40], strict=True):
        connections.tick(loop)
        line.send(POST)
        line.wire.unsent = unsent
    assert not any(line.wire.closed for line in lines)

    connections.tick(loop)

    assert [line.wire.closed for line in lines] == [True, False, False, False]


def test_an_idle_connection_keeps_nothing_of_its_requests(
    loop: asyncio.AbstractEventLoop,
) -> None:
    size = 100_000
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size

    async def keep_body(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        message = await receive()
        scope["body"] = message["body"]
        assert not message["more_body"]
        await send({"type": "http.response.start", "status": 422, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    lines = [Line(keep_body, loop) for _ in range(10)]
    tracemalloc.start()
    try:
        for line in lines:
            line.send(request + b"a" * size)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert [line.statuses for line in lines] == [[422]] * 10
    assert not any(line.ended for line in lines)
    assert kept < 3 * size


@pytest.mark.parametrize("requests", [0, 1], ids=["silent", "after_an_answer"])
def test_an_idle_connection_is_closed_after_keep_alive_seconds(
    open_line: Open, requests: int
) -> None:
    line = open_line()
    line.send(*[GET] * requests)
    line.pass_seconds(75)
    assert not line.ended

    line.pass_seconds(1)

    assert line.wire.closed
    assert line.statuses == [200] * requests


def test_empty_lines_do_not_keep_a_connection(open_line: Open) -> None:
    line = open_line(keep_alive_seconds=3)
    for _ in range(4):
        line.send(b"\r\n")
        line.pass_seconds(1)

    assert line.wire.closed


def test_a_request_in_work_is_no_idle_connection(
    open_line: Open, app: Recorder
) -> None:
    line = open_line(keep_alive_seconds=1, head_seconds=1, linger_seconds=1)
    app.gate.clear()
    line.send(POST)
    line.pass_seconds(10)
    app.gate.set()
    line.settle()

    assert line.statuses == [200]


def test_no_connection_times_out_while_the_process_is_stopped(open_line: Open) -> None:
    line = open_line(keep_alive_seconds=3)
    line.send(GET)
    line.loop.time = lambda: 1e9  # type: ignore[method-assign]
    line.pass_seconds(1)

    assert not line.ended


# Too many connections.


def test_the_connections_that_were_idle_longest_make_room(
    app: Recorder,
    loop: asyncio.AbstractEventLoop,
    caplog: pytest.LogCaptureFixture,
) -> None:
    connections = Connections(ServingSettings(max_connections=8))
    app.gate.clear()
    lines = [Line(app, loop, connections) for _ in range(4)]
    lines[0].send(POST)  # in work
    connections.tick(loop)
    lines += [Line(app, loop, connections) for _ in range(4)]

    with caplog.at_level(logging.WARNING):
        lines += [Line(app, loop, connections) for _ in range(3)]

    closed = [number for number, line in enumerate(lines) if line.wire.closed]
    assert closed == [1, 2, 3]
    assert len([r for r in caplog.records if "idle longest" in r.message]) == 1
    for line in lines:
        line.wire.close()
        line.settle()
    assert len(connections) == 0


def test_connections_that_wait_for_their_clients_make_room(
    app: Recorder, loop: asyncio.AbstractEventLoop
) -> None:
    connections = Connections(ServingSettings(max_connections=3))
    app.gate.clear()
    lines = []
    for sent in (POST, POST[:-1], POST, POST, POST):
        lines.append(Line(app, loop, connections))
        lines[-1].send(sent)
        lines[0].wire.unsent = int(len(lines) > 3)  # it takes no answer any more

    # The body that is on its way, then the answer that is not taken, then the new one.
    closed = [number for number, line in enumerate(lines) if line.wire.closed]
    assert closed == [0, 1]
    lines.append(Line(app, loop, connections))
    assert lines[-1].wire.closed
    for line in lines:
        line.wire.close()
        line.settle()
    assert len(connections) == 0


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no ulimit to set")
def test_probes_are_answered_when_descriptors_run_out(start: Start) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))"
    process = start(code=limit, LOG_LEVEL="warning").ready()
    opened = []
    try:
        for sent in (b"GET / HT", POST[:-1]):
            for _ in range(150):
                opened.append(connect(process))
                opened[-1].send(sent)
            for _ in range(20):
                assert process.readiness() == 200
            assert process.ask().status_code == 200
        metrics = httpx2.get(f"{process.url}/metrics").text
    finally:
        for connection in opened:
            connection.close()

    assert 'http_connections_ended_total{reason="descriptors"}' in metrics
    assert process.log().count("Too many connections") == 1


# The end of a connection.


@pytest.mark.parametrize(
    ("request_", "statuses"),
    [
        (POST.replace(b"4\r", b"4\r\nConnection: close\r") + GET, [200]),
        (POST + b"GARBAGE\r\n\r\n", [200, 400]),
        (POST * 5 + b"\x00", [200] * 5 + [400]),
        (POST + CHUNKED + b"zz\r\n", [200, 400]),
        (CHUNKED + b"1\r\nx\r\nzz\r\n", [400]),
        (POST.replace(b"1.1", b"1.0") + GET, [200]),
        (
            POST.replace(b"4\r", b"4\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r")
            + GET,
            [200],
        ),
        (b"GET / HTTP/1.1\r\n\r\n", [400]),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", [400]),
        (b"GET /\r\nHost: a\r\n\r\n", [400]),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", [400]),
        (b"GET / HTTP/3.1\r\nHost: a\r\n\r\n", [400]),
        (b"GET / http/1.1\r\nHost: a\r\n\r\n", [400]),
        (b"GET / HTTP/1.1 RTSP/1.0\r\nHost: a\r\n\r\n", [400]),
        (b"OPTIONS / RTSP/1.0\r\n\r\n", [400]),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", [400]),
        (POST + b"POST /  HTTP/1.1\r\nHost: a\r\n\r\n", [200, 400]),
        (POST + b"GET /a RTSP/1.1\r\nHost: a\r\n\r\n", [200, 400]),
        (b"PLAY / RTSP/1.0\r\nHost: a\r\n\r\n", [400]),
        (b"SOURCE / ICE/1.0\r\nHost: a\r\n\r\n", [400]),
        (b"GET / ICY/1.0\r\nHost: a\r\n\r\n", [400]),
        (b"OPTIONS / SIP/2.0\r\nHost: a\r\n\r\n", [400]),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [400]),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", [400]),
        (CHUNKED.replace(b"chunked", b"gzip, chunked") + b"0\r\n\r\n", [501]),
    ],
)
@pytest.mark.parametrize("together", [True, False], ids=["together", "bytewise"])
def test_what_came_before_the_end_is_answered(
    open_line: Open, request_: bytes, statuses: list[int], together: bool
) -> None:
    line = open_line()
    line.send(*[request_] if together else [bytes([byte]) for byte in request_])

    assert line.statuses == statuses
    assert line.answers.count(b"connection: close") == 1
    assert line.ended


@pytest.mark.parametrize("step", [1, 7, 1_000, 100_000])
@pytest.mark.parametrize(
    "body",
    [
        b"OPTIONS / RTSP/1.0\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"\r\n\r\nGET / RTSP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1",
    ],
)
@pytest.mark.parametrize(
    ("last", "status"), [(b"GET / ", 200), (b"GET  / ", 400)], ids=["right", "wrong"]
)
def test_only_a_request_line_is_checked_as_one(
    open_line: Open, app: Recorder, step: int, body: bytes, last: bytes, status: int
) -> None:
    line = open_line()
    length, upgrade = b"%d\r\n" % len(body), b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
    head = b"POST /RTSP/ HTTP/1.1\r\nX: GET  / RTSP/1.0\r\nHost: a\r\n" + upgrade
    stream = head + b"Content-Length: " + length + b"\r\n" + body
    stream += CHUNKED + b"%x\r\n" % len(body) + body + b"\r\n0\r\nX: GET  /\r\n\r\n"
    stream += POST.replace(b"4\r\n\r\nbody", length + b"\r\n") + body
    stream += last + b"HTTP/1.1\r\nHost: a\r\n\r\n"
    line.send(*[stream[at : at + step] for at in range(0, len(stream), step)])

    assert [sent for *_, sent in app.requests] == [body] * 3 + [b""] * (status == 200)
    assert line.statuses == [200, 200, 200, status]


def test_a_client_that_closes_its_side_gets_its_answers(
    open_line: Open, app: Recorder
) -> None:
    line = open_line()
    app.gate.clear()
    line.send(POST + POST + POST[:-1])
    line.send_eof()
    assert not line.wire.closed
    app.gate.set()
    line.settle(30)

    assert line.statuses == [200, 200]
    assert line.wire.closed


def test_a_client_that_closes_its_side_gets_all_of_a_stream(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for part in (b"one", b"two", b"three"):
            yield part
            await asyncio.sleep(0)

    line = Line(StreamingResponse(parts()), loop)
    line.protocol.data_received(GET)
    line.send_eof()
    line.settle(30)

    assert line.statuses == [200]
    assert line.answers.endswith(b"three\r\n0\r\n\r\n")
    assert line.wire.closed


@pytest.mark.parametrize("headers", [{}, {"Transfer-Encoding": "chunked"}])
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_a_stream_to_a_client_of_http_1_0_ends_with_the_connection(
    loop: asyncio.AbstractEventLoop, method: bytes, headers: dict[str, str]
) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for part in (b"one", b"", b"two"):
            yield part

    async def stream(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        await StreamingResponse(parts(), headers=headers)(scope, receive, send)

    line = Line(stream, loop)
    line.send(method + b" / HTTP/1.0\r\n\r\n")
    line.settle(30)

    head, _, body = line.answers.partition(b"\r\n\r\n")
    assert line.statuses == [200]
    assert b"transfer-encoding" not in head and b"connection: close" in head
    assert body == (b"onetwo" if method == b"GET" else b"")
    assert line.wire.closed


EXPECT = POST.replace(b"4\r", b"4\r\nExpect: 100-continue\r")


def test_a_body_that_was_not_asked_for_ends_the_connection(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async def reject(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        headers = [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 415, "headers": headers})
        await send({"type": "http.response.body"})

    line = Line(reject, loop)
    line.send(EXPECT.removesuffix(b"body"))

    assert line.statuses == [415]
    assert b"connection: close" in line.answers
    assert line.ended


@pytest.mark.parametrize("parts", [1, 2], ids=["unasked", "asked"])
def test_a_body_that_came_keeps_the_connection(open_line: Open, parts: int) -> None:
    line = open_line()
    head = EXPECT.removesuffix(b"body")
    line.send(*[EXPECT] if parts == 1 else [head, b"body"], GET)

    assert line.statuses == ([200, 200] if parts == 1 else [100, 200, 200])
    assert b"connection: close" not in line.answers
    assert not line.ended


def test_a_client_that_sends_on_after_the_last_answer_is_cut_off(
    open_line: Open,
) -> None:
    line = open_line(linger_seconds=3)
    line.send(b"GARBAGE\r\n\r\n")
    assert line.wire.half_closed
    for _ in range(3):
        line.send(b"more")
        line.pass_seconds(1)
    assert not line.wire.closed

    line.pass_seconds(1)

    assert line.wire.closed


def test_a_body_that_goes_on_after_its_answer_is_cut_off(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async def ignore(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        headers = [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 404, "headers": headers})
        await send({"type": "http.response.body"})

    lines = [Line(ignore, loop, linger_bytes=LIMIT, linger_seconds=3) for _ in "ab"]
    for line in lines:
        line.send(POST.replace(b" 4", b" 9999999").removesuffix(b"body"))
        assert line.statuses == [404] and not line.ended
    lines[0].send(*[bytes(65_536)] * 17)
    lines[1].pass_seconds(4)
    lines[1].settle()

    assert [line.wire.closed for line in lines] == [True, True]


def test_invalid_http_is_counted_and_logged(start: Start) -> None:
    process = start().ready()
    with connect(process) as connection:
        connection.sendall(b"GARBAGE\r\n\r\n")
        answer = read_all(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    (request_id,) = [
        line.partition(b": ")[2].decode()
        for line in head.split(b"\r\n")
        if line.startswith(b"x-request-id")
    ]

    assert b"content-type: application/problem+json" in head
    assert json.loads(body)["type"] == "urn:problem-type:invalid-http"
    metrics = httpx2.get(f"{process.url}/metrics").text
    labels = 'method="other",route="unmatched",status="400"'
    assert "http_requests_total{" + labels + "} 1.0" in metrics
    assert 'http_connections_ended_total{reason="invalid-http"} 1.0' in metrics
    wait_until(lambda: request_id in process.log())


@pytest.mark.parametrize("reads", [False, True], ids=["reads_nothing", "reads"])
def test_memory_stays_flat_under_a_client_that_sends_ahead(
    start: Start, reads: bool
) -> None:
    process = start(LOG_LEVEL="error").ready()
    body = json.dumps(BODY).encode()
    one = (
        b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % (PATH.encode(), len(body))
    ) + body
    process.ask()
    before = memory(process)
    with connect(process) as connection:
        connection.setblocking(False)
        end = time.monotonic() + 2
        while time.monotonic() < end:
            with suppress(BlockingIOError):
                connection.send(one * 2_000)
            with suppress(BlockingIOError):
                reads and connection.recv(LIMIT)
            time.sleep(0.001)
        most = memory(process)

    assert most - before < 16


def memory(process: Process) -> int:
    """Return the resident memory of a process in MB."""
    status = Path(f"/proc/{process.process.pid}/status").read_text(encoding="utf-8")
    (size,) = [line.split()[1] for line in status.splitlines() if "VmRSS" in line]
    return int(size) // 1_024


def connect(process: Process) -> socket.socket:
    """Open a connection to a service."""
    host, _, port = process.url.rpartition("/")[2].rpartition(":")
    return socket.create_connection((host, int(port)), timeout=20)


def read_all(connection: socket.socket) -> bytes:
    """Return what comes until the end of the connection."""
    return b"".join(iter(lambda: connection.recv(65_536), b""))


@pytest.mark.parametrize("size", [LIMIT + 1, 20 * LIMIT])
def test_a_client_that_sends_first_and_reads_later_sees_a_413(
    server: Process, size: int
) -> None:
    for _ in range(20):
        request = Request(server.url + PATH, b" " * size)
        request.add_header("Content-Type", "application/json")
        with pytest.raises(HTTPError) as caught:
            urlopen(request, timeout=20)
        with caught.value as answer:
            assert answer.code == 413
            assert json.load(answer)["type"] == "urn:problem-type:body-too-large"


def test_what_comes_after_the_last_answer_is_read_up_to_a_bound(
    server: Process,
) -> None:
    with connect(server) as connection:
        connection.sendall(
            b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000000000000\r\n\r\n" % PATH.encode()
        )
        assert read_all(connection).startswith(b"HTTP/1.1 413 ")
        sent = 0
        with suppress(OSError):
            while sent < 2**30:
                sent += connection.send(bytes(LIMIT))
    assert 2**24 < sent < 2**28
