"""The end of a connection: an answer reaches a client that is still sending."""

import json
import socket
from contextlib import suppress
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.conftest import Process
from tests.serving.conftest import PATH

LIMIT = 1_048_576


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
