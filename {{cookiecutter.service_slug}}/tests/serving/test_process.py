"""The real process: its start, its answers over HTTP, its end."""

import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx2
import pytest

from serving.memory import Memory, find_trim, resident_bytes
from serving.model import MODEL_FILE
from serving.testing import ROOT, wait_until
from tests.conftest import Process, Start
from tests.serving.conftest import BODY, PATH

# A model that takes three seconds.
SLOW_MODEL = """
import asyncio
from serving.batching import Batcher
submit = Batcher.submit
async def submit_late(*args):
    await asyncio.sleep(3)
    return await submit(*args)
Batcher.submit = submit_late
"""
TCP_INFO = 11  # Python names it only where the system has it


def run_to_its_end(**settings: str) -> subprocess.CompletedProcess[str]:
    """Start the service where it cannot start."""
    return subprocess.run(
        [sys.executable, "-m", "tests.serving"],
        cwd=ROOT,
        env={**os.environ, "SERVICE_HOST": "127.0.0.1", **settings},
        capture_output=True,
        text=True,
        timeout=30,
    )


class InFlight:
    """Requests whose bodies stay on their way until they are told to finish."""

    def __init__(self, process: Process, count: int) -> None:
        self._url = f"{process.url}{PATH}"
        self._arrived = threading.Barrier(count + 1)
        self._finish = threading.Event()
        self._clients = ThreadPoolExecutor(count)
        self._answers = [self._clients.submit(self._send) for _ in range(count)]
        self._arrived.wait(timeout=20)
        # What is asked after them is answered after they were read.
        assert process.readiness() == 200

    def finish(self) -> None:
        """Send the rest of the bodies."""
        self._finish.set()

    def statuses(self) -> list[int]:
        """Let them finish; the status of each, 0 where the connection broke."""
        self.finish()
        return [answer.result() for answer in self._answers]

    def _send(self) -> int:
        headers = {"Content-Type": "application/json"}
        try:
            return httpx2.post(
                self._url, content=self._body(), headers=headers, timeout=20
            ).status_code
        except httpx2.TransportError:
            return 0

    def _body(self) -> Iterator[bytes]:
        yield b'{"claims": '
        self._arrived.wait(timeout=20)
        self._finish.wait(timeout=20)
        yield b'[{"note": "a dent"}]}'


def test_a_service_becomes_ready_serves_drains_and_ends(
    start: Start, model_dir: Path
) -> None:
    content = (model_dir / MODEL_FILE).read_bytes()
    # Reading a pipe waits for its writer: loading takes as long as the test likes.
    (model_dir / MODEL_FILE).unlink()
    os.mkfifo(model_dir / MODEL_FILE)
    process = start(DRAIN_SECONDS="6", GRACEFUL_SECONDS="20")

    assert process.readiness() == 503
    write = threading.Thread(
        target=(model_dir / MODEL_FILE).write_bytes, args=(content,)
    )
    write.start()
    process.ready()

    answer = process.ask()
    assert answer.json()["verdicts"][0]["label"] == "suspicious"

    requests = InFlight(process, 20)
    process.terminate()
    wait_until(lambda: process.readiness() == 503, seconds=3)
    late = process.ask()
    assert late.status_code == 200
    assert late.headers["connection"] == "close"
    wait_until(lambda: not process.listens())
    assert requests.statuses() == [200] * 20

    assert process.process.wait(timeout=20) == 0


def test_requests_in_flight_are_finished_even_without_a_drain(start: Start) -> None:
    process = start().ready()

    requests = InFlight(process, 20)
    process.terminate()
    wait_until(lambda: not process.listens())

    assert requests.statuses() == [200] * 20
    assert process.process.wait(timeout=20) == 0


def test_a_request_that_never_ends_does_not_keep_the_process(start: Start) -> None:
    process = start(GRACEFUL_SECONDS="1").ready()

    requests = InFlight(process, 1)
    process.terminate()
    process.process.wait(timeout=10)

    assert requests.statuses()[0] in {0, 500}  # cut off, or told so


def test_a_model_that_never_answers_does_not_keep_the_process(start: Start) -> None:
    hangs = (
        "import time; from serving.batching import Batcher\n"
        "Batcher._outcomes = lambda *_: time.sleep(60)"
    )
    process = start(hangs, GRACEFUL_SECONDS="1", INLINE_BUDGET_MS="0").ready()

    with ThreadPoolExecutor(1) as client:
        request = client.submit(process.ask)
        wait_until(lambda: in_flight(process) == 1)
        process.terminate()
        assert process.process.wait(timeout=10) == 0
        with suppress(httpx2.TransportError):
            assert request.result().status_code == 500


def test_sigterm_ends_a_process_that_is_still_loading(
    start: Start, model_dir: Path
) -> None:
    (model_dir / MODEL_FILE).unlink()
    os.mkfifo(model_dir / MODEL_FILE)
    process = start()
    assert process.readiness() == 503

    process.terminate()

    assert process.process.wait(timeout=5) == 0


def test_a_missing_model_leaves_a_process_that_says_so(start: Start) -> None:
    process = start(MODEL_DIR="/nonexistent")
    wait_until(lambda: "cannot be read" in httpx2.get(f"{process.url}/readyz").text)

    assert httpx2.get(f"{process.url}/livez").status_code == 200
    process.terminate()
    assert process.process.wait(timeout=5) == 0
    assert "/nonexistent/model.onnx cannot be read" in process.log()


def in_flight(process: Process) -> float:
    """Return how many requests are in flight."""
    found = re.search(
        r"^http_requests_in_flight (\S+)$",
        httpx2.get(f"{process.url}/metrics").text,
        re.MULTILINE,
    )
    assert found
    return float(found[1])


def test_requests_above_the_limit_are_rejected_and_probes_are_not(start: Start) -> None:
    process = start(SLOW_MODEL, MAX_CONCURRENCY="2").ready()

    with ThreadPoolExecutor(2) as clients:
        requests = [clients.submit(process.ask) for _ in range(2)]
        wait_until(lambda: in_flight(process) == 2)
        rejected = process.ask()

        assert rejected.status_code == 503
        assert rejected.headers["retry-after"] == "1"
        assert "limit of 2 requests" in rejected.json()["detail"]
        assert process.readiness() == 200
        assert [each.result().status_code for each in requests] == [200, 200]
    assert process.ask().status_code == 200


@pytest.mark.parametrize("sent", ["", "x"], ids=["nothing", "a byte"])
def test_bodies_that_are_merely_announced_take_no_room(start: Start, sent: str) -> None:
    process = start(MAX_CONCURRENCY="8", MAX_BYTES_IN_WORK="1000000").ready()
    head = (
        "POST /v1/judge HTTP/1.1\r\nHost: localhost\r\n"
        "Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"
    )
    address = ("127.0.0.1", int(process.url.rpartition(":")[2]))
    with ExitStack() as connections:
        for _ in range(64):
            connection = socket.create_connection(address, timeout=10)
            connections.enter_context(connection).sendall((head + sent).encode())
        assert [process.ask().status_code for _ in range(10)] == [200] * 10


def test_a_body_that_does_not_arrive_in_time_is_408(start: Start) -> None:
    process = start(BODY_SECONDS="0.2").ready()
    address = ("127.0.0.1", int(process.url.rpartition(":")[2]))
    cut_off = (
        b"POST /v1/judge HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )

    for _ in range(5):  # some are due at the same moment, some just after others
        with ExitStack() as stack:
            connections = [
                stack.enter_context(socket.create_connection(address, timeout=10))
                for _ in range(20)
            ]
            for connection in connections:
                connection.sendall(cut_off)
            for connection in connections:
                answer = connection.makefile("rb").read()
                assert answer.startswith(b"HTTP/1.1 408 ")
                assert b"did not arrive within 0.2 s" in answer


@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts the packets")
def test_an_answer_comes_in_one_packet(server: Process) -> None:
    address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    body = json.dumps(BODY).encode()
    request = (
        b"POST /v1/judge HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    ) + body

    with socket.create_connection(address, timeout=10) as connection:
        for _ in range(50):
            connection.sendall(request)
            answer = b""
            while not answer.endswith(b"}"):
                answer += connection.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 200 ")
        assert packets_with_data(connection) == 50


@pytest.mark.parametrize("parts", [1, 2], ids=["together", "body_later"])
def test_a_client_that_asks_for_http_2_is_answered(server: Process, parts: int) -> None:
    """Java's HttpClient asks so; uvicorn would read the body as another request."""
    address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    body = json.dumps(BODY).encode()
    head = (
        b"POST /v1/judge HTTP/1.1\r\nHost: localhost\r\n"
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\nX-Request-ID: one\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    )
    next_one = b"GET /v1/model HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: two\r\n"

    with socket.create_connection(address, timeout=10) as connection:
        for part in [head + body] if parts == 1 else [head, body]:
            connection.sendall(part)
            time.sleep(0.1)  # so that two are read apart
        connection.sendall(next_one + b"Connection: close\r\n\r\n")
        answers = b""
        while some := connection.recv(65_536):
            answers += some

    assert answers.count(b"HTTP/1.1 ") == answers.count(b"HTTP/1.1 200 ") == 2
    assert answers.index(b"x-request-id: one") < answers.index(b'"label":"')
    assert answers.index(b'"label":"') < answers.index(b"x-request-id: two")
    assert "pgrade" not in server.log()


def packets_with_data(connection: socket.socket) -> int:
    """How many came in: `tcpi_data_segs_in` in the `struct tcp_info` of Linux."""
    known = connection.getsockopt(socket.IPPROTO_TCP, TCP_INFO, 156)
    count: int = struct.unpack_from("I", known, 152)[0]
    return count


def test_an_address_of_ipv6_is_a_url(start: Start) -> None:
    process = start(SERVICE_HOST="::1")

    assert process.url.startswith("http://[::1]:")
    assert process.ready().ask().status_code == 200


@pytest.mark.parametrize(
    ("host", "url"),
    [("::1", "http://[::1]:"), ("x86_64-conda-linux-gnu", "http://127.0.0.1:")],
)
def test_the_old_name_of_the_address_is_taken_only_for_an_address(
    start: Start, host: str, url: str
) -> None:
    process = start(HOST=host, SERVICE_HOST="")

    assert process.url.startswith(url)
    assert ("Rename it" in process.log()) == (host == "::1")


def test_the_documentation_is_found_behind_a_proxy_that_strips_a_prefix(
    start: Start,
) -> None:
    process = start(ROOT_PATH="/claims").ready()

    assert "'/claims/openapi.json'" in httpx2.get(f"{process.url}/docs").text
    document = httpx2.get(f"{process.url}/openapi.json").json()
    assert document["servers"] == [{"url": "/claims"}]
    assert process.ask().status_code == 200


@pytest.mark.parametrize("path", ["claims", "/claims/", "/a b", "/a?b"])
def test_a_root_path_that_is_no_prefix_ends_with_78(path: str) -> None:
    done = run_to_its_end(PORT="0", ROOT_PATH=path)

    assert done.returncode == 78
    assert "ROOT_PATH=" in done.stderr


# Acts as soon as one of the given modules is looked for.
AT_IMPORT = """
import importlib.abc, os, signal, sys

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in {names}:
            {action}

sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("module", "name"),
    [("tests.serving", "asyncio"), ("app", "asyncio"), ("app", "onnxruntime")],
)
def test_a_signal_during_the_imports_ends_the_process_with_0(
    module: str, name: str, number: signal.Signals
) -> None:
    action = f"os.kill(os.getpid(), {int(number)})"
    code = AT_IMPORT.format(names={name}, action=action)
    run = f"import runpy; runpy.run_module({module!r}, run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code + run], cwd=ROOT, capture_output=True, timeout=30
    )

    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("module", ["tests.serving", "app"])
@pytest.mark.parametrize("closed", ["2>&-", "0<&- 1>&-", "0<&- 1>&- 2>&-"])
def test_no_socket_takes_the_place_of_a_stream_that_is_closed(
    module: str, closed: str
) -> None:
    action = "os._exit(os.open(os.devnull, os.O_RDONLY))"  # the lowest that is free
    code = AT_IMPORT.format(names={"asyncio"}, action=action)
    run = f"import runpy; runpy.run_module({module!r}, run_name='__main__')"
    shell = f'exec "$0" -c "$1" {closed}'
    done = subprocess.run(
        ["sh", "-c", shell, sys.executable, code + run], cwd=ROOT, timeout=30
    )

    assert done.returncode == 3


def test_a_signal_while_the_model_is_loaded_ends_without_a_drain(
    start: Start, model_dir: Path
) -> None:
    (model_dir / MODEL_FILE).unlink()
    os.mkfifo(model_dir / MODEL_FILE)
    process = start(DRAIN_SECONDS="60")

    process.terminate()

    assert process.process.wait(timeout=10) == 0


def test_a_port_in_use_is_named_and_ends_with_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = run_to_its_end(PORT=port)

    assert done.returncode == 1
    assert f"Cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("host", ["\xe4..b", "a..b", "127.0.0.1:80"])
def test_an_address_that_cannot_be_listened_on_is_named(host: str) -> None:
    done = run_to_its_end(PORT="0", SERVICE_HOST=host)

    assert done.returncode == 1
    assert "Cannot listen on " in done.stderr and host[1:] in done.stderr
    assert "Traceback" not in done.stderr


def test_a_client_that_asks_again_at_once_after_a_rejection_is_paused(
    start: Start,
) -> None:
    """In a second it is rejected a few times, not thousands."""
    process = start(SLOW_MODEL, MAX_CONCURRENCY="1").ready()
    rejected = 0
    with (
        ThreadPoolExecutor(1) as other,
        httpx2.Client(base_url=process.url) as client,
    ):
        request = other.submit(process.ask)
        wait_until(lambda: in_flight(process) == 1)
        end = time.monotonic() + 1
        while time.monotonic() < end:
            answer = client.post(PATH, json=BODY, timeout=20)
            assert answer.status_code == 503
            rejected += 1

        assert request.result().status_code == 200

    assert 1 < rejected < 20


def test_an_unreadable_setting_is_named_and_ends_with_78() -> None:
    done = run_to_its_end(PORT="http", LOG_LEVEL="loud")

    assert done.returncode == 78
    assert "PORT='http'" in done.stderr and "LOG_LEVEL='loud'" in done.stderr
    assert "Traceback" not in done.stderr


def test_traces_that_cannot_be_sent_end_with_78_and_the_reason() -> None:
    done = run_to_its_end(PORT="0", OTEL_TRACES_EXPORTER="zipkin")

    assert done.returncode == 78
    assert "OTEL_TRACES_EXPORTER='zipkin': use otlp or none" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGSTOP")
def test_a_process_that_was_stopped_loses_no_request(start: Start) -> None:
    process = start(BODY_SECONDS="2").ready()
    resident = memory(process)

    begun = InFlight(process, 20)
    with ThreadPoolExecutor(20) as clients:
        process.process.send_signal(signal.SIGSTOP)
        begun.finish()
        requests = [clients.submit(process.ask) for _ in range(30)]
        time.sleep(3)
        process.process.send_signal(signal.SIGCONT)
        continued = time.monotonic()
        assert process.readiness() == 200
        assert time.monotonic() - continued < 5
        assert {each.result().status_code for each in requests} == {200}
    assert begun.statuses() == [200] * 20

    assert memory(process) < 1.2 * resident


def memory(process: Process) -> float:
    """Return the resident bytes of a process."""
    found = re.search(
        r"^process_resident_memory_bytes (\S+)$",
        httpx2.get(f"{process.url}/metrics").text,
        re.MULTILINE,
    )
    return float(found[1]) if found else 0.0


@pytest.mark.skipif(find_trim() is None, reason="no glibc")
def test_memory_that_was_freed_goes_back_to_the_system() -> None:
    memory = Memory()
    memory.give_back()
    blocks = [bytes(900) for _ in range(80_000)]
    taken = resident_bytes()
    del blocks[:-1]  # the last one keeps glibc from giving back the others

    memory.give_back()

    assert resident_bytes() < taken - 50_000_000
