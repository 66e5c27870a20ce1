"""Traces: the spans that are sent, and what is said where they cannot be."""

import socket
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from serving import traces
from serving.settings import SettingsError
from serving.testing import ROOT
from tests.conftest import Start
from tests.serving.conftest import PATH
from tests.serving.test_logs import TRACE_ID, TRACEPARENT, ended, requests


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
    process.ask(TRACEPARENT)
    httpx2.get(f"{process.url}/nothing")
    ended(process)

    judge, unknown = collector.spans()  # the probes made none
    assert judge.name == "POST /v1/judge"
    assert judge.kind == Span.SPAN_KIND_SERVER
    assert judge.trace_id.hex() == TRACE_ID
    assert judge.parent_span_id.hex() == "00f067aa0ba902b7"
    assert {
        "http.request.method": "POST",
        "http.route": PATH,
        "http.response.status_code": "200",
    }.items() <= attributes(judge).items()
    assert attributes(unknown)["http.response.status_code"] == "404"
    logged = {line["route"]: line["trace_id"] for line in requests(process)}
    assert logged == {PATH: TRACE_ID, "unmatched": unknown.trace_id.hex()}


def test_the_service_names_itself_unless_the_environment_does(
    start: Start, collector: Collector
) -> None:
    about = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    name, version = about["project"]["name"], about["project"]["version"]
    plain = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}

    for more, expected in (({}, name), ({"OTEL_SERVICE_NAME": "mine"}, "mine")):
        process = start(**plain, **more).ready()
        process.ask()
        ended(process)
        resource = collector.resource()
        assert resource["service.name"] == expected
        assert resource["service.version"] == version
        collector.sent.clear()


def test_without_a_collector_the_service_serves_on(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    process = start(OTEL_EXPORTER_OTLP_ENDPOINT=url).ready()

    assert process.ask().status_code == 200


def test_a_collector_that_never_answers_does_not_hold_up_the_exit(
    start: Start,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it only accepts
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = start(OTEL_EXPORTER_OTLP_ENDPOINT=url).ready()
        for _ in range(10):
            process.ask(path="/nothing")
        began = time.monotonic()
        ended(process)

    assert time.monotonic() - began < 2 * traces.EXIT_SECONDS + 2
    assert "the last spans are lost" in process.log()


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "ENDPOINT='': use the URL"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "use the URL"),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "'zipkin': use otlp or none"),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            },
            "'grpc': use http/protobuf",
        ),
    ],
)
def test_a_setting_of_traces_that_cannot_be_used_is_named(
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
    assert not traces.enabled()
    assert traces.telemetry("name", "1") == dict.fromkeys(
        ("tracing", "metrics", "logs"), False
    )
