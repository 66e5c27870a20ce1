"""GET /metrics: what Prometheus sees of the service."""

import asyncio
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as parse

from serving.container import cpu_limit, memory_limit
from serving.contract import TENTHS, ModelInfo, Task
from serving.metrics import Metrics
from serving.model import Answer
from serving.testing import wait_until
from tests.conftest import Serve
from tests.serving.conftest import BODY, PATH

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(client: TestClient) -> Series:
    """The value of every time series, by its name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse(client.get("/metrics").text)
        for sample in family.samples
    }


def value(client: TestClient, name: str, **labels: str) -> float:
    """The value of one time series; 0 if it is not there yet."""
    return scrape(client).get((name, frozenset(labels.items())), 0)


def labels(client: TestClient, name: str) -> list[dict[str, str]]:
    """The labels of all time series of a name."""
    return [dict(labels) for found, labels in scrape(client) if found == name]


def test_the_metrics_and_their_types_are_these(client: TestClient) -> None:
    families = {
        family.name: (family.type, set(family.samples[0].labels) - {"le"})
        for family in parse(client.get("/metrics").text)
        if family.samples
    }
    client.post(PATH, json=BODY)

    expected = {
        "http_requests": ("counter", {"route", "method", "status"}),
        "http_request_duration_seconds": ("histogram", {"route"}),
        "http_requests_in_flight": ("gauge", set()),
        "http_requests_shed": ("counter", set()),
        "model_batch_size": ("histogram", set()),
        "model_duration_seconds": ("histogram", set()),
        "predictions": ("counter", {"label"}),
        "predictions_abstained": ("counter", set()),
        "prediction_score": ("histogram", set()),
        "model_training_label_share": ("gauge", {"label"}),
        "model_info": ("gauge", {"version", "data_hash", "trained_at"}),
        "service_ready": ("gauge", set()),
        "process_cpu_seconds": ("counter", set()),
        "process_cpu_limit_cores": ("gauge", set()),
        "process_resident_memory_bytes": ("gauge", set()),
        "process_virtual_memory_bytes": ("gauge", set()),
        "process_memory_limit_bytes": ("gauge", set()),
        "process_open_fds": ("gauge", set()),
        "process_max_fds": ("gauge", set()),
        "process_start_time_seconds": ("gauge", set()),
        "disk_free_bytes": ("gauge", set()),
        "disk_size_bytes": ("gauge", set()),
    }
    # A service may have metrics of its own beside them.
    assert {name: families.get(name) for name in expected} == expected


def test_answers_are_counted_and_timed_by_route(client: TestClient) -> None:
    client.post(PATH, json=BODY)
    client.post(PATH, json={})
    client.get(PATH)

    for method, status in (("POST", "200"), ("POST", "422"), ("GET", "405")):
        name, route = "http_requests_total", PATH
        assert value(client, name, route=route, method=method, status=status) == 1
    assert value(client, "http_request_duration_seconds_count", route=PATH) == 3
    assert value(client, "http_request_duration_seconds_sum", route=PATH) > 0


def test_a_crash_counts_as_500(client: TestClient) -> None:
    client.post("/v1/crash", json=BODY)

    crash = {"route": "/v1/crash", "method": "POST", "status": "500"}
    assert value(client, "http_requests_total", **crash) == 1


def test_a_rejected_request_counts_for_its_route(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve(max_concurrency=1)
    monkeypatch.setattr(service(client).admission, "requests", 1)

    assert client.post(PATH, json=BODY).status_code == 503

    shed = {"route": PATH, "method": "POST", "status": "503"}
    assert value(client, "http_requests_total", **shed) == 1
    assert value(client, "http_requests_shed_total") == 1
    assert value(client, "http_requests_in_flight") == 1


def test_no_request_stays_in_flight(client: TestClient) -> None:
    client.post(PATH, json=BODY)
    client.post(PATH, json={})

    assert value(client, "http_requests_in_flight") == 0


def test_a_thousand_made_up_paths_and_methods_add_no_series(
    client: TestClient,
) -> None:
    client.get("/nothing")
    client.request("BREW", "/nothing")
    client.get("/metrics")
    before = set(scrape(client))

    async def ask_all() -> None:
        for number in range(1_000):
            method = "GET" if number % 2 else f"BREW{number}"
            await call(application(client), method, f"/v1/{number}/nothing")

    asyncio.run(ask_all())

    assert set(scrape(client)) == before
    unmatched = {"route": "unmatched", "status": "404"}
    total = "http_requests_total"
    assert value(client, total, method="GET", **unmatched) == 501
    assert value(client, total, method="other", **unmatched) == 501


def test_predictions_are_counted_by_label_and_score(client: TestClient) -> None:
    client.post(PATH, json={"claims": BODY["claims"][:1] * 2})

    assert value(client, "predictions_total", label="suspicious") == 2
    assert value(client, "predictions_total", label="honest") == 0
    assert value(client, "prediction_score_count") == 2
    assert 1 < value(client, "prediction_score_sum") <= 2


def test_a_value_is_counted_by_its_tenth_of_the_training_values() -> None:
    metrics = Metrics(lambda: True, lambda: 0)
    about: dict[str, Any] = {"version": "1", "metrics": {}, "refitted": False}
    about |= {"data_hash": "", "git_revision": "", "trained_at": datetime.now(UTC)}
    deciles = [float(number) for number in range(0, 110, 10)]  # 0, 10, … 100
    info = ModelInfo(task=Task.REGRESSION, fields={}, deciles=deciles, **about)
    metrics.describe_model(info, dict.fromkeys(TENTHS, 0.1))

    for value in (-5.0, 10.0, 10.5, 95.0, 1e9):
        metrics.record_prediction(Answer(value=value))

    (family,) = (one for one in metrics.collect() if one.name == "predictions")
    counts = {one.labels["label"]: one.value for one in family.samples}
    assert list(counts) == list(TENTHS)
    assert {name: count for name, count in counts.items() if count} == {
        "tenth 1": 2,
        "tenth 2": 1,
        "tenth 10": 2,
    }


def test_the_model_is_measured_by_call_and_batch(client: TestClient) -> None:
    client.post(PATH, json=BODY)

    assert value(client, "model_batch_size_count") == 1
    assert value(client, "model_batch_size_sum") == 2
    assert value(client, "model_duration_seconds_count") == 1
    assert value(client, "model_duration_seconds_sum") > 0


def test_labels_start_at_zero_beside_their_share_in_training(
    client: TestClient,
) -> None:
    for label, share in (("honest", 0.75), ("suspicious", 0.25)):
        assert value(client, "model_training_label_share", label=label) == share
    found = labels(client, "predictions_total")
    assert found == [{"label": "honest"}, {"label": "suspicious"}]


def test_the_model_is_named(client: TestClient) -> None:
    model = client.get("/v1/model").json()
    (info,) = labels(client, "model_info")

    assert info["version"] == model["version"]
    assert info["data_hash"] == model["data_hash"]
    assert info["trained_at"] == model["trained_at"].replace("Z", "+00:00")


def test_readiness_is_a_metric(serve: Serve, model_dir: Any) -> None:
    ready = serve()
    wait_until(lambda: value(ready, "service_ready") == 1)
    service(ready).lifecycle.drain()
    assert value(ready, "service_ready") == 0

    (model_dir / "model.onnx").unlink()
    broken = serve()
    wait_until(lambda: "cannot be read" in broken.get("/readyz").text)
    assert value(broken, "service_ready") == 0
    assert labels(broken, "model_info") == []


def test_the_container_and_its_limits_are_measured(client: TestClient) -> None:
    found = {name: number for (name, labels), number in scrape(client).items()}

    assert found["process_cpu_limit_cores"] == cpu_limit() > 0
    memory = found["process_resident_memory_bytes"]
    assert 10e6 < memory < found["process_memory_limit_bytes"] == memory_limit()
    assert 0 < found["process_open_fds"] < found["process_max_fds"]
    assert 0 < found["disk_free_bytes"] < found["disk_size_bytes"]


def test_the_form_is_the_one_that_the_scraper_asks_for(client: TestClient) -> None:
    plain = client.get("/metrics")
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    openmetrics = client.get("/metrics", headers={"Accept": accept})

    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-tex")
    parse_openmetrics: Any = openmetrics_parser.text_string_to_metric_families
    assert len(list(parse_openmetrics(openmetrics.text))) > 20
    assert not re.search("_created", plain.text + openmetrics.text)
    assert "/metrics" not in client.get("/openapi.json").json()["paths"]


def application(client: TestClient) -> FastAPI:
    """The application that a client talks to."""
    assert isinstance(client.app, FastAPI)
    return client.app


def service(client: TestClient) -> Any:
    """The service behind a client."""
    return application(client).state.service


async def call(app: FastAPI, method: str, path: str) -> None:
    """A request straight to the application: thousands take seconds."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        pass

    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode()}
    more = {"headers": [], "query_string": b"", "root_path": "", "scheme": "http"}
    await app({**scope, **more}, receive, send)
