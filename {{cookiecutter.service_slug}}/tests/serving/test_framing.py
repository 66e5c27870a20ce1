"""Requests begin and end where another parser, h11, sees them begin and end.

A proxy and a service that disagree about that can be made to mix up the requests of
two clients (request smuggling). FUZZ=10000 sets the number of connections.
"""

import asyncio
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

import h11
import httpx2
import pytest

from serving.testing import wait_until
from tests.conftest import Process, Start
from tests.serving.line import Line, Recorder, Request
from tests.serving.raw import cut, make_stream

COUNT = int(os.environ.get("FUZZ", "400"))
CLIENTS = 8
REJECTIONS = {400, 501}


def parse(stream: bytes) -> list[Request]:
    """Return the complete requests that h11 finds.

    Empty lines before a request are skipped, as RFC 9112 (section 2.2) asks for.
    """
    requests: list[Request] = []
    method, target, body = "", b"", b""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(stream.lstrip(b"\r\n"))
    with suppress(h11.RemoteProtocolError):
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                method, target, body = event.method.decode(), event.target, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                requests.append((method, target, body))
                connection.send(h11.Response(status_code=204, headers=[]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE:
                    break
                rest, _ = connection.trailing_data
                connection = h11.Connection(h11.SERVER)
                connection.receive_data(rest.lstrip(b"\r\n"))
            else:
                break
    return requests


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def test_the_service_reads_the_same_requests_as_h11(
    loop: asyncio.AbstractEventLoop,
) -> None:
    lengths = set()
    for seed in range(COUNT):
        random = Random(seed)
        stream = make_stream(random)
        app = Recorder()
        line = Line(app, loop)
        line.send(*cut(random, stream))
        line.settle(30)
        rejected = REJECTIONS & {*line.statuses}
        expected = parse(stream)

        assert app.requests == expected[: len(app.requests)], (seed, stream)
        assert rejected or len(app.requests) == len(expected), (seed, stream)
        answered = [status for status in line.statuses if status == 200]
        assert len(answered) == len(app.requests), (seed, stream)
        lengths.add((len(expected), bool(rejected)))
        line.wire.close()
        line.settle()

    assert lengths >= {(length, end) for length in range(4) for end in (False, True)}


def descriptors(process: Process) -> int:
    """Return how many descriptors a process has open."""
    return len(list(Path(f"/proc/{process.process.pid}/fd").iterdir()))


def resident(process: Process) -> int:
    """Return the resident memory of a process in MB."""
    pages = Path(f"/proc/{process.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE") >> 20


def in_work(process: Process) -> str:
    """Return the metric of the requests in flight."""
    metrics = httpx2.get(f"{process.url}/metrics").text.splitlines()
    (line,) = [each for each in metrics if each.startswith("http_requests_in_flight ")]
    return line.split()[1]


def attack(address: tuple[str, int], seeds: range) -> None:
    """Send a stream for each seed, and leave in one of the ways that clients have."""
    for seed in seeds:
        random = Random(seed)
        parts = cut(random, make_stream(random))
        with suppress(OSError), socket.create_connection(address, 10) as client:
            client.settimeout(random.choice([0.001, 0.02, 0.1]))
            for part in parts:
                client.sendall(part)
            end = random.random()
            if end < 0.3:
                client.shutdown(socket.SHUT_WR)
            elif end < 0.5:
                off = struct.pack("ii", 1, 0)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, off)
                continue
            elif end < 0.6:
                continue
            while client.recv(65_536):
                pass


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc to look into")
def test_thousands_of_raw_requests_leave_no_descriptor_and_no_memory(
    start: Start,
) -> None:
    process = start(LOG_LEVEL="error").ready()
    host, _, port = process.url.rpartition("/")[2].rpartition(":")
    attack((host, int(port)), range(50))  # so that all code has run
    assert process.ask().status_code == 200
    wait_until(lambda: in_work(process) == "0.0")
    before = descriptors(process), resident(process)

    threads = [
        threading.Thread(
            target=attack, args=((host, int(port)), range(start_, COUNT, CLIENTS))
        )
        for start_ in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert process.ask().status_code == 200
    wait_until(lambda: in_work(process) == "0.0")
    wait_until(lambda: descriptors(process) <= before[0])
    assert resident(process) - before[1] < 8
    assert "Traceback" not in process.log()
