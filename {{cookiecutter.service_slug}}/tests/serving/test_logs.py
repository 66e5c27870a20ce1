"""Logs, request ids and traces: what can be found out about a request afterwards."""

import json
import re
import socket
import sys
import threading
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from pydantic import ValidationError

from app.contract import PredictRequest
from serving import traces
from serving.logs import json_line
from serving.settings import SettingsError
from serving.testing import ROOT, wait_until
from tests.conftest import BODY, Process, Serve, Start

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = {"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"}


SECRET = {"instances": [{"text": "my secret"}]}

# A service whose every prediction is a defect, one that goes down by itself, and one
# that loses a thread.
RUN = "\nimport runpy; runpy.run_module('app', run_name='__main__')"
BROKEN = "from app import api; api.Prediction = None" + RUN
DOOMED = """
import uvicorn
def serve(*_: object, **__: object) -> None: raise RuntimeError("no more")
uvicorn.Server.startup = serve
""" + RUN
TORN = """
from threading import Thread
from serving.health import Lifecycle
def tear() -> None: raise RuntimeError("torn")
def become_ready(self: Lifecycle) -> None:
    thread = Thread(target=tear); thread.start(); thread.join(); self.phase = "ready"
Lifecycle.become_ready = become_ready
""" + RUN


def lines(process: Process) -> list[dict[str, Any]]:
    """What a process has logged: every line is a JSON object."""
    return [json.loads(line) for line in process.log().splitlines()]


def requests(process: Process) -> list[dict[str, Any]]:
    """The lines of the requests that it has answered."""
    return [line for line in lines(process) if line["logger"] == "serving.access"]


def ended(process: Process) -> Process:
    """The process, after SIGTERM and a proper end."""
    process.terminate()
    assert process.process.wait(timeout=20) == 0
    return process


def test_a_request_is_a_line_of_json(start: Start) -> None:
    process = start().ready()
    answer = httpx2.post(f"{process.url}/v1/predict", json=BODY, headers=TRACEPARENT)

    (line,) = requests(ended(process))
    duration, time = line.pop("duration"), datetime.fromisoformat(line.pop("time"))
    assert line == {
        "level": "info",
        "logger": "serving.access",
        "message": "POST /v1/predict 200",
        "request_id": answer.headers["x-request-id"],
        "trace_id": TRACE_ID,
        "method": "POST",
        "route": "/v1/predict",
        "status": 200,
        "model_version": answer.json()["model_version"],
    }
    assert 0 < duration < 10
    assert timedelta(0) < datetime.now(UTC) - time < timedelta(minutes=1)


def test_nothing_is_lost_on_sigterm(start: Start) -> None:
    process = start().ready()
    with httpx2.Client(base_url=process.url) as client:
        answers = [client.post("/v1/predict", json=BODY) for _ in range(50)]
    ids = [answer.headers["x-request-id"] for answer in answers]

    assert [line["request_id"] for line in requests(ended(process))] == ids
    assert lines(process)[-1]["message"].startswith("Finished server process")


def test_a_line_does_not_wait_for_the_next(start: Start) -> None:
    process = start().ready()
    process.predict()

    wait_until(lambda: len(requests(process)) == 1, seconds=5)


def test_the_first_line_tells_the_address_whatever_the_level(start: Start) -> None:
    process = start(LOG_LEVEL="critical").ready()

    (line,) = lines(ended(process))
    assert line["message"] == f"Listening on {process.url} (docs: /docs)"


def test_a_crash_is_one_line_with_the_id_of_its_request(start: Start) -> None:
    process = start(BROKEN).ready()
    answer = process.predict()
    assert answer.status_code == 500

    ended(process)
    (crash,) = (line for line in lines(process) if "traceback" in line)
    assert crash["level"] == "error"
    assert crash["request_id"] == answer.headers["x-request-id"]
    assert "TypeError: 'NoneType' object is not callable" in crash["traceback"]
    assert [line["level"] for line in requests(process)] == ["warning"]


def test_an_error_does_not_wait(start: Start) -> None:
    process = start(
        "from serving import logs; logs.FLUSH_SECONDS = 60\n" + BROKEN
    ).ready()
    process.predict()

    wait_until(lambda: "NoneType" in process.log(), seconds=5)


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
    process, broken = start(LOG_LEVEL="debug").ready(), start(BROKEN).ready()
    for url in (process.url, broken.url):
        for body in (SECRET, {"instances": [{"text": 1, "more": "my secret"}]}):
            path = "/v1/predict?my=secret"
            httpx2.post(f"{url}{path}", json=body, headers={"Referer": "my secret"})
        httpx2.get(f"{url}/my-secret")

    assert "secret" not in ended(process).log() + ended(broken).log()


def test_an_error_of_the_contract_keeps_what_the_user_wrote_to_itself() -> None:
    with pytest.raises(ValidationError) as caught:
        PredictRequest.model_validate({"instances": [{"text": ["my secret"]}]})

    assert "text" in str(caught.value) and "secret" not in str(caught.value)


def test_texts_are_logged_if_a_setting_says_so(start: Start) -> None:
    process = start(LOG_TEXTS="true").ready()
    answer = httpx2.post(f"{process.url}/v1/predict", json=SECRET)

    (line,) = (line for line in lines(ended(process)) if "instances" in line)
    assert line["instances"] == SECRET["instances"]
    assert line["labels"] == [answer.json()["predictions"][0]["label"]]
    assert line["request_id"] == answer.headers["x-request-id"]


def test_lines_for_people_are_short_and_no_json(start: Start) -> None:
    process = start(BROKEN, LOG_FORMAT="console").ready()
    process.predict()

    log = ended(process).log()
    assert re.search(r"^\d\d:\d\d:\d\d info     Listening on http", log)
    assert re.search(r"warning  POST /v1/predict 500  duration=0\.\d+$", log, re.M)
    assert re.search(r"^Traceback \(most recent call last\):$", log, re.M)


def test_whatever_is_logged_becomes_json() -> None:
    line = json_line({"text": "half \ud800 ü\n", "number": float("nan"), "other": {1}})

    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert json.loads(line)["text"] == "half \ud800 ü\n"


@pytest.mark.parametrize("given", ["abc-123", "{a:1}", "x" * 128, "#~]"])
def test_a_sane_request_id_is_taken_and_returned(
    client: TestClient, given: str
) -> None:
    answer = client.get("/v1/model", headers={"X-Request-ID": given})

    assert answer.headers["x-request-id"] == given


@pytest.mark.parametrize(
    "given", ["", "x" * 129, "a b", "a\tb", "é", "\x7f", '"', "\\"]
)
def test_another_request_id_is_replaced(client: TestClient, given: str) -> None:
    answer = client.get("/v1/model", headers=[(b"X-Request-ID", given.encode())])

    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


def test_every_answer_has_a_request_id_also_an_error(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve(max_concurrency=1)
    wait_until(lambda: client.get("/readyz").status_code == 200)
    admission = client.app.state.service.admission  # type: ignore[attr-defined]

    def statuses() -> Iterator[int]:
        for answer in (
            client.post("/v1/predict", json=BODY),
            client.post("/v1/predict", json={}),
            client.get("/nothing"),
            client.get("/livez"),
        ):
            assert len(answer.headers["x-request-id"]) == 32
            yield answer.status_code

    assert list(statuses()) == [200, 422, 404, 200]
    with monkeypatch.context() as broken:
        broken.setattr("app.api.Prediction", None)
        assert list(statuses()) == [500, 422, 404, 200]
    monkeypatch.setattr(admission, "requests", 1)
    assert list(statuses()) == [503, 503, 503, 200]


class Collector(ThreadingHTTPServer):
    """A small OTLP/HTTP receiver: keeps the spans that are sent to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.sent: list[ExportTraceServiceRequest] = []

    def spans(self) -> list[Span]:
        """All spans so far."""
        return [
            span
            for request in self.sent
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def resource(self) -> dict[str, str]:
        """Who sends them."""
        return attributes(self.sent[0].resource_spans[0].resource)


class Receiver(BaseHTTPRequestHandler):
    """Takes what an exporter posts to /v1/traces."""

    server: Collector

    def do_POST(self) -> None:  # noqa: N802, the name that http.server looks for
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/traces":
            self.server.sent.append(ExportTraceServiceRequest.FromString(content))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


def attributes(of: Any) -> dict[str, str]:
    """The attributes of a span or a resource, as text."""
    return {
        item.key: item.value.string_value or str(item.value.int_value)
        for item in of.attributes
    }


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector that listens."""
    with Collector() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_request_is_a_span_of_its_callers_trace(
    start: Start, collector: Collector
) -> None:
    process = start(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url).ready()
    httpx2.post(f"{process.url}/v1/predict", json=BODY, headers=TRACEPARENT)
    httpx2.get(f"{process.url}/nothing")
    ended(process)

    predict, unknown = collector.spans()  # the probes made none
    assert predict.name == "POST /v1/predict"
    assert predict.kind == Span.SPAN_KIND_SERVER
    assert predict.trace_id.hex() == TRACE_ID
    assert predict.parent_span_id.hex() == "00f067aa0ba902b7"
    assert {
        "http.request.method": "POST",
        "http.route": "/v1/predict",
        "http.response.status_code": "200",
    }.items() <= attributes(predict).items()
    assert attributes(unknown)["http.response.status_code"] == "404"
    logged = {line["route"]: line["trace_id"] for line in requests(process)}
    assert logged == {"/v1/predict": TRACE_ID, "unmatched": unknown.trace_id.hex()}


def test_the_service_names_itself_unless_the_environment_does(
    start: Start, collector: Collector
) -> None:
    about = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    name, version = about["project"]["name"], about["project"]["version"]
    plain = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}

    for more, expected in (({}, name), ({"OTEL_SERVICE_NAME": "mine"}, "mine")):
        process = start(**plain, **more).ready()
        process.predict()
        ended(process)
        resource = collector.resource()
        assert resource["service.name"] == expected
        assert resource["service.version"] == version
        collector.sent.clear()


def test_without_a_collector_the_service_serves_on(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    process = start(OTEL_EXPORTER_OTLP_ENDPOINT=url).ready()

    assert process.predict().status_code == 200


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "ENDPOINT='': take the URL"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "take the URL"),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "'zipkin': take otlp or none"),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            },
            "'grpc': take http/protobuf",
        ),
    ],
)
def test_traces_that_cannot_be_sent_are_said(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], says: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError, match=says):
        traces.check()


def test_traces_without_their_packages_stop_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    # What Python finds where the extra is not installed: nothing.
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter", None)

    with pytest.raises(SettingsError, match="add the extra `traces`"):
        traces.check()


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none"},
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318",
            "OTEL_SDK_DISABLED": "true",
        },
    ],
)
def test_traces_are_off_unless_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    traces.check()
    assert not traces.wanted()
    assert traces.telemetry("name", "1") == dict.fromkeys(
        ("tracing", "metrics", "logs"), False
    )
