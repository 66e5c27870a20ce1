"""Logs and request ids: what can be found out about a request afterwards."""

import fcntl
import json
import logging
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

from serving import logs
from serving.logs import Log, json_line
from serving.requests import Ids, Outcome, make_id
from serving.testing import wait_until, wait_until_ready
from tests.conftest import Process, Serve, Start
from tests.serving.conftest import BODY, PATH
from tests.serving.toy import Claims

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
CRASH = "/v1/crash"
TRACEPARENT = {"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"}

# A service that goes down by itself, and one that loses a thread.
DOOMED = """
import uvicorn
def serve(*_: object, **__: object) -> None: raise RuntimeError("no more")
uvicorn.Server.startup = serve
"""
TORN = """
from threading import Thread
from serving.health import Lifecycle
def tear() -> None: raise RuntimeError("torn")
def become_ready(self: Lifecycle) -> None:
    thread = Thread(target=tear); thread.start(); thread.join(); self.phase = "ready"
Lifecycle.become_ready = become_ready
"""


def lines(process: Process) -> list[dict[str, Any]]:
    """What a process has logged: every line is a JSON object."""
    return [json.loads(line) for line in process.log().splitlines()]


def requests(process: Process) -> list[dict[str, Any]]:
    """The lines of the requests that it has answered."""
    return [line for line in lines(process) if line["logger"] == "serving.access"]


def ended(process: Process) -> Process:
    """The process, after SIGTERM and a proper end."""
    process.stop()
    return process


def test_a_request_is_a_line_of_json(start: Start) -> None:
    process = start().ready()
    answer = process.ask(TRACEPARENT)

    (line,) = requests(ended(process))
    duration, time = line.pop("duration"), datetime.fromisoformat(line.pop("time"))
    assert line == {
        "level": "info",
        "logger": "serving.access",
        "message": "POST /v1/judge 200",
        "request_id": answer.headers["x-request-id"],
        "trace_id": TRACE_ID,
        "method": "POST",
        "route": PATH,
        "status": 200,
        "model_version": answer.json()["model_version"],
    }
    assert 0 < duration < 10
    assert timedelta(0) < datetime.now(UTC) - time < timedelta(minutes=1)


def test_no_log_line_is_lost_on_sigterm(start: Start) -> None:
    process = start().ready()
    with httpx2.Client(base_url=process.url) as client:
        answers = [client.post(PATH, json=BODY) for _ in range(50)]
    ids = [answer.headers["x-request-id"] for answer in answers]

    assert [line["request_id"] for line in requests(ended(process))] == ids
    assert lines(process)[-1]["message"].startswith("Finished server process")


def test_a_line_does_not_wait_for_the_next(start: Start) -> None:
    process = start().ready()
    process.ask()

    wait_until(lambda: len(requests(process)) == 1, seconds=5)


def test_the_first_line_tells_the_address_whatever_the_level(start: Start) -> None:
    process = start(LOG_LEVEL="critical").ready()

    (line,) = lines(ended(process))
    assert line["message"] == f"Listening on {process.url} (docs: /docs)"


def test_a_crash_is_one_line_with_the_id_of_its_request(start: Start) -> None:
    process = start().ready()
    answer = process.ask(path=CRASH)
    assert answer.status_code == 500

    ended(process)
    (crash,) = (line for line in lines(process) if "traceback" in line)
    assert crash["level"] == "error"
    assert crash["request_id"] == answer.headers["x-request-id"]
    assert "RuntimeError: this endpoint is broken" in crash["traceback"]
    assert [line["level"] for line in requests(process)] == ["warning"]


def test_an_error_is_written_at_once(start: Start) -> None:
    process = start("from serving import logs; logs.FLUSH_SECONDS = 60").ready()
    process.ask(path=CRASH)

    wait_until(lambda: "is broken" in process.log(), seconds=5)


def test_a_crash_of_the_process_is_one_line(start: Start) -> None:
    process = start(DOOMED)

    assert process.process.wait(timeout=20) == 1
    crash = lines(process)[-1]
    assert crash["level"] == "critical"
    assert "RuntimeError: no more" in crash["traceback"]


def test_a_crash_of_a_thread_is_one_line(start: Start) -> None:
    process = start(TORN).ready()

    (crash,) = (line for line in lines(ended(process)) if "traceback" in line)
    assert crash["level"] == "critical"
    assert crash["message"] == "A thread crashed."
    assert "RuntimeError: torn" in crash["traceback"]
    assert "Exception in thread" not in process.log()


def test_probes_and_scrapes_are_logged_at_debug_only(start: Start) -> None:
    quiet, chatty = start().ready(), start(LOG_LEVEL="debug").ready()
    for process in (quiet, chatty):
        httpx2.get(f"{process.url}/livez")
        httpx2.get(f"{process.url}/metrics")

    assert requests(ended(quiet)) == []
    probed = {line["route"]: line["level"] for line in requests(ended(chatty))}
    assert probed == dict.fromkeys(["/livez", "/readyz", "/metrics"], "debug")


def test_the_text_of_a_request_is_not_logged(start: Start) -> None:
    process = start(LOG_LEVEL="debug").ready()
    secret = {"note": "my secret"}
    for path in (PATH, CRASH):
        for claim in (secret, secret | {"note": 1, "more": "my secret"}):
            url, headers = f"{process.url}{path}?my=secret", {"Referer": "my secret"}
            httpx2.post(url, json={"claims": [claim]}, headers=headers)
    httpx2.get(f"{process.url}/my-secret")

    assert "secret" not in ended(process).log()


def test_an_error_of_the_contract_keeps_the_text_to_itself() -> None:
    with pytest.raises(ValidationError) as caught:
        Claims.model_validate({"claims": [{"note": ["my secret"]}]})

    assert "note" in str(caught.value) and "secret" not in str(caught.value)


def test_console_lines_are_short_and_no_json(start: Start) -> None:
    process = start(LOG_FORMAT="console").ready()
    process.ask(path=CRASH)

    log = ended(process).log()
    assert re.search(r"^\d\d:\d\d:\d\d info     Listening on http", log)
    assert re.search(r"warning  POST /v1/crash 500  duration=0\.\d+$", log, re.M)
    assert re.search(r"^Traceback \(most recent call last\):$", log, re.M)


def test_whatever_is_logged_becomes_json() -> None:
    line = json_line({"text": "half \ud800 ü\n", "number": float("nan"), "other": {1}})

    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert json.loads(line)["text"] == "half \ud800 ü\n"


@pytest.mark.parametrize("given", ["abc-123", "{a:1}", "x" * 128, "#~]"])
def test_a_valid_request_id_is_taken_and_returned(
    client: TestClient, given: str
) -> None:
    answer = client.get("/v1/model", headers={"X-Request-ID": given})

    assert answer.headers["x-request-id"] == given


@pytest.mark.parametrize(
    "given", ["", "x" * 129, "a b", "a\tb", "é", "\x7f", '"', "\\"]
)
def test_an_invalid_request_id_is_replaced(client: TestClient, given: str) -> None:
    answer = client.get("/v1/model", headers=[(b"X-Request-ID", given.encode())])

    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


def test_no_two_ids_are_alike_whatever_thread_makes_them() -> None:
    with ThreadPoolExecutor(8) as threads:
        ids = [*threads.map(lambda _: make_id(), range(2_000))]

    assert len({*ids}) == 2_000
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)


def test_every_answer_has_a_request_id_also_an_error(serve: Serve) -> None:
    client = serve(max_concurrency=1)
    wait_until(lambda: client.get("/readyz").status_code == 200)
    admission = client.app.state.service.admission  # type: ignore[attr-defined]

    def statuses() -> Iterator[int]:
        for answer in (
            client.post(PATH, json=BODY),
            client.post("/v1/crash", json=BODY),
            client.post(PATH, json={}),
            client.get("/nothing"),
            client.get("/livez"),
        ):
            assert len(answer.headers["x-request-id"]) == 32
            yield answer.status_code

    assert list(statuses()) == [200, 500, 422, 404, 200]
    admission.requests = 1
    assert list(statuses()) == [503, 503, 503, 503, 200]


class Stderr:
    """A pipe in the place of stderr, of the smallest size."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._read, self.write = os.pipe()
        fcntl.fcntl(self.write, fcntl.F_SETPIPE_SZ, 4096)
        monkeypatch.setattr("serving.logs.STDERR", self.write)

    def read(self) -> bytes:
        """Read what is there."""
        return os.read(self._read, 65_536)


def reported(written: bytes) -> int:
    """Return how many lines the log says it has dropped."""
    return sum(map(int, re.findall(rb"(\d+) log lines were dropped", written)))


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> Stderr:
    return Stderr(monkeypatch)


def record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    """A record as `logger.info` makes it."""
    made = logging.getLogger("app").makeRecord(
        *("app", logging.INFO, "api.py", 7, message, args, None), extra=extra
    )
    return made


@pytest.mark.skipif(sys.platform != "linux", reason="Linux sets the size of a pipe")
def test_logging_does_not_wait_for_a_reader_that_stalls(
    stderr: Stderr, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "MAX_LINES", 100)
    monkeypatch.setattr(logs, "EXIT_SECONDS", 0.2)
    log = Log("info")
    log.start()
    for number in range(1_000):
        log.emit(record("line %d", number))
        log.record_response(Outcome(PATH, "POST", 200), 0.1, Ids("one", None), "1")
    assert log.dropped > 1_000

    written = b""
    while reported(written) < log.dropped or not written.endswith(b"\n"):
        written += stderr.read()
    log.stop()

    assert all(json.loads(line) for line in written.splitlines())


@pytest.mark.skipif(sys.platform != "linux", reason="Linux sets the size of a pipe")
def test_large_lines_are_dropped_before_they_fill_the_memory(
    stderr: Stderr, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "MAX_BYTES", 100_000)
    monkeypatch.setattr(logs, "EXIT_SECONDS", 0.0)
    log = Log("info")
    log.start()
    for _ in range(100):
        log.emit(record("Predicted", texts="x" * 10_000))
    log.stop()

    assert log.dropped >= 80


@pytest.mark.skipif(sys.platform != "linux", reason="Linux sets the size of a pipe")
def test_a_slow_reader_gets_every_line(stderr: Stderr) -> None:
    log = Log("info")
    log.start()
    written = b""
    for number in range(500):
        log.emit(record("line %d", number))
    while written.count(b"\n") < 500:
        written += stderr.read()
        time.sleep(0.001)
    log.stop()

    messages = [json.loads(line)["message"] for line in written.splitlines()]
    assert messages == [f"line {number}" for number in range(500)]
    assert not log.dropped


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda: record("%d of %s", "x"), "%d of %s [arguments that do not fit"),
        (lambda: record("no %s"), "no %s"),
        (
            lambda: record("odd", value={(1, 2): "\ud800"}),
            "A line of api.py:7 cannot be written",
        ),
        (lambda: record("x" * 1_000_000), "x … x"),
    ],
    ids=["arguments", "none", "value", "length"],
)
def test_a_wrong_call_of_a_logger_is_one_line(
    made: Callable[[], logging.LogRecord],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (tmp_path / "stderr").open("wb") as file:
        monkeypatch.setattr(logs, "STDERR", file.fileno())
        Log("info").emit(made())

    (line,) = (tmp_path / "stderr").read_text(encoding="utf-8").splitlines()
    assert says in json.loads(line)["message"]
    assert len(line) < 40_000


def served_to(stderr: int, model_dir: Path, code: str = "") -> tuple[str, Any]:
    """Start a service with this stderr; return its address and the process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    run = "import runpy; runpy.run_module('tests.serving', run_name='__main__')"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{code}\n{run}"],
        env={**os.environ, "PORT": f"{port}", "MODEL_DIR": f"{model_dir}"},
        stderr=stderr,
    )
    wait_until_ready(f"http://127.0.0.1:{port}")
    return f"http://127.0.0.1:{port}", process


def lost_lines(url: str) -> float:
    """Return how many lines a service counts as dropped."""
    found = re.search(
        r"^log_lines_dropped_total (\S+)$", httpx2.get(f"{url}/metrics").text, re.M
    )
    assert found
    return float(found[1])


def test_a_service_whose_log_nobody_reads_serves_and_ends(model_dir: Path) -> None:
    read, write = os.pipe()
    few = "from serving import logs; logs.MAX_LINES = 100"
    url, process = served_to(write, model_dir, few)
    try:
        with httpx2.Client(base_url=url, timeout=10) as client:
            statuses = {client.post(PATH, json=BODY).status_code for _ in range(1_000)}
            assert client.post(CRASH, json=BODY).status_code == 500
            assert client.get("/livez").status_code == 200
        assert statuses == {200}
        assert lost_lines(url) > 100

        process.terminate()
        assert process.wait(timeout=10) == 0
    finally:
        process.kill()
        process.wait()
        os.close(read)
        os.close(write)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_service_whose_disk_is_full_serves_and_ends(model_dir: Path) -> None:
    with open("/dev/full", "wb") as full:
        url, process = served_to(full.fileno(), model_dir)
    try:
        assert httpx2.post(f"{url}{PATH}", json=BODY).status_code == 200
        wait_until(lambda: lost_lines(url) > 0)

        process.terminate()
        assert process.wait(timeout=10) == 0
    finally:
        process.kill()
        process.wait()
