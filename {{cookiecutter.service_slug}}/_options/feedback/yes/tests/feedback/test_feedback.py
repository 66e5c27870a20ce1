"""`POST /v1/feedback`: what is stored and refused, and what a slow database does."""

import hashlib
import itertools
import json
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import httpx2
import pytest
from fastapi.testclient import TestClient
from pydantic import Field, ValidationError, computed_field, create_model
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from app.contract import Instance
from app.examples import EXAMPLES
from feedback import plugin
from feedback.database import migrate
from feedback.items import make_request, to_row, truth_name
from feedback.settings import FeedbackSettings
from feedback.tables import Feedback
from serving.fields import dump_fields
from serving.settings import ServingSettings, SettingsError, load_settings
from serving.testing import ROOT, wait_until
from tests.conftest import BODY, Process, Serve, Start
from tests.feedback.conftest import (
    TRUTH,
    PostgreSQL,
    count,
    make_item,
    make_opinion,
    open_engine,
)

TENANTS = ("acme", "beta")
KEYS = " ".join(
    f"{name}:{hashlib.sha256(name.encode()).hexdigest()}" for name in TENANTS
)


def bearer(tenant: str) -> dict[str, str]:
    """Return the header that carries the key of a tenant."""
    return {"Authorization": f"Bearer {tenant}"}


def send(client: Any, *items: dict[str, Any], **options: Any) -> Any:
    """Send items of feedback."""
    return client.post("/v1/feedback", json={"feedback": [*items]}, **options)


def open_client(process: Process, tenant: str = TENANTS[0]) -> httpx2.Client:
    """Return a client of a process, with the key of a tenant."""
    return httpx2.Client(base_url=process.url, headers=bearer(tenant), timeout=20)


def stored(engine: Engine) -> list[Feedback]:
    """Return the rows, the oldest first."""
    with Session(engine) as session:
        return list(session.scalars(select(Feedback).order_by(Feedback.received_at)))


def test_a_field_that_is_computed_is_not_stored() -> None:
    class Counted(Instance):
        """An instance with a field that was not sent."""

        @computed_field
        def fields_that_it_has(self) -> int:
            return len(type(self).model_fields)

    unsaid = dict.fromkeys(("correct", "comment", "source", "actor", "occurred_at"))
    item = SimpleNamespace(
        id=uuid.uuid4(),
        prediction_id="1",
        instance=Counted.model_validate_json(json.dumps(EXAMPLES[0])),
        prediction=SimpleNamespace(model_version="1", label="a", value=None, score=1),
        **unsaid,
    )

    row = to_row(item, "", "1", with_instance=True)

    assert set(row["instance"]) == set(Instance.model_fields)


def test_an_item_is_stored_as_it_was_sent(served: TestClient, engine: Engine) -> None:
    item = make_item(comment="tst", source="demo", actor="user 7")
    item["occurred_at"] = "2026-03-01T12:00:00+02:00"

    answer = send(served, item)

    assert (answer.status_code, answer.json()) == (201, {"stored": 1, "known": 0})
    (row,) = stored(engine)
    assert (str(row.id), row.prediction_id) == (item["id"], item["prediction_id"])
    # With what it leaves out.
    read = Instance.model_validate_json(json.dumps(item["instance"]))
    assert row.instance == dump_fields(read)
    assert (row.comment, row.source, row.actor) == ("tst", "demo", "user 7")
    assert row.occurred_at.isoformat() == "2026-03-01T10:00:00+00:00"
    assert getattr(row, TRUTH) is not None and row.correct is None
    assert (row.tenant, len(row.contract_version)) == ("", 12)


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        (bool, True, "true"),
        (float, 1.5, "1.5"),
        (Literal[1, 2], 2, "2"),
        (Annotated[float, Field(le=1)], 0.5, 1.5),
    ],
)
def test_the_truth_has_the_type_of_the_label(kind: Any, right: Any, wrong: Any) -> None:
    labelled = create_model("Labelled", __base__=Instance, label=(kind, ...))
    request, name = make_request(Instance, labelled), truth_name(labelled)
    items = [make_item(**{TRUTH: None} | {name: one}) for one in (right, wrong)]

    assert request.model_validate_json(json.dumps({"feedback": items[:1]}))
    with pytest.raises(ValidationError):
        request.model_validate_json(json.dumps({"feedback": items}))


def test_an_opinion_is_stored_without_a_truth(
    served: TestClient, engine: Engine
) -> None:
    assert send(served, make_opinion(False)).status_code == 201

    (row,) = stored(engine)
    assert (row.correct, row.label, row.value) == (False, None, None)


def test_the_same_again_is_stored_once_and_answered_200(
    served: TestClient, engine: Engine
) -> None:
    one, other = make_item(0), make_item(1)
    send(served, one)

    again = send(served, one)
    with_another = send(served, one, other, other)

    assert (again.status_code, again.json()) == (200, {"stored": 0, "known": 1})
    assert with_another.status_code == 201
    assert with_another.json() == {"stored": 1, "known": 1}
    assert count(engine) == 2


def test_the_same_id_with_another_body_is_409_and_nothing_is_stored(
    served: TestClient, engine: Engine
) -> None:
    item = make_item(0)
    send(served, item)

    answer = send(served, make_item(1), {**item, "comment": "other"})

    assert answer.status_code == 409
    assert answer.json()["type"] == "urn:problem-type:feedback-differs"
    assert [one["pointer"] for one in answer.json()["errors"]] == ["/feedback/1/id"]
    new = make_item(2)
    assert send(served, new, {**new, "source": "x"}).status_code == 409
    assert count(engine) == 1


INVALID: list[dict[str, Any]] = [
    {"id": "1"},
    {"correct": True},  # beside the truth
    {TRUTH: None},  # neither
    {TRUTH: ["a"]},
    {"comment": "a" * 2_001},
    {"comment": "a\x00b"},
    {"prediction": {}},
    {"instance": {"unknown": 1}},
    {"occurred_at": "2026-03-01T12:00:00"},
    {"tenant": "acme"},
]


@pytest.mark.parametrize("changed", INVALID, ids=str)
def test_what_breaks_the_contract_is_422(serve: Serve, changed: dict[str, Any]) -> None:
    answer = send(serve(), make_item(**changed))

    assert answer.status_code == 422, answer.json()


def test_the_number_of_items_is_bounded(serve: Serve) -> None:
    assert send(serve(), *[make_item(n) for n in range(101)]).status_code == 422


def test_the_tenant_is_that_of_the_key(
    engine: Engine, url: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    client = serve(api_keys=KEYS)
    item = make_item()

    assert send(client, item).status_code == 401
    assert send(client, item, headers=bearer("acme")).status_code == 201
    # Another tenant's id is its own: no conflict tells that somebody else has it.
    other = {**item, "comment": "other"}
    assert send(client, other, headers=bearer("beta")).status_code == 201
    assert sorted(row.tenant for row in stored(engine)) == ["acme", "beta"]


def test_without_instances_nothing_personal_is_stored(
    engine: Engine, url: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("FEEDBACK_INSTANCES", "off")
    item = make_item(comment="tst", source="demo", actor="user 7")

    assert send(serve(), item).status_code == 201

    (row,) = stored(engine)
    assert (row.instance, row.comment, row.source, row.actor) == (None,) * 4


def test_metrics_count_items_once_and_show_the_database(served: TestClient) -> None:
    right = make_opinion(True)
    send(served, right, make_opinion(False))
    send(served, right)

    wait_until(lambda: "feedback_database_up 1" in served.get("/metrics").text)
    metrics = served.get("/metrics").text
    assert 'feedback_total{agrees="true"} 1.0' in metrics
    assert 'feedback_total{agrees="false"} 1.0' in metrics
    assert "feedback_schema_behind 0" in metrics


def test_a_database_that_cannot_be_reached_costs_feedback_only(start: Start) -> None:
    process = start(
        DATABASE_URL="postgresql://nobody@127.0.0.1:9/none", FEEDBACK_SECONDS="0.5"
    ).ready()

    with open_client(process) as client:
        answer = send(client, make_item())

    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:problem-type:feedback-unavailable"
    assert answer.headers["retry-after"]
    assert process.ask().status_code == process.readiness() == 200
    process.stop()


def test_sqlite_is_refused_where_postgresql_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_KIND", "postgresql")

    for url, reason in {
        "sqlite:///data/feedback.db": "DATABASE_URL: .*SQLite is a file of one machine",
        "mysql://host/name": "DATABASE_URL: .*begins with neither",
        "secret": "DATABASE_URL: .*no URL",
    }.items():
        monkeypatch.setenv("DATABASE_URL", url)
        with pytest.raises(SettingsError, match=reason) as caught:
            load_settings(FeedbackSettings)
        assert "secret" not in str(caught.value)


@pytest.fixture
def process(
    server: PostgreSQL, postgresql: str, start: Start
) -> Iterator[tuple[Process, str]]:
    """A service as a process with a migrated PostgreSQL, and its address."""
    engine = open_engine(postgresql)
    migrate(engine)
    engine.dispose()
    yield start(
        DATABASE_URL=postgresql, FEEDBACK_SECONDS="5", API_KEYS=KEYS
    ).ready(), postgresql.rpartition("/")[2]


def test_a_database_that_hangs_delays_neither_predictions_nor_probes_nor_the_exit(
    server: PostgreSQL, process: tuple[Process, str]
) -> None:
    service, _ = process

    def correct() -> int:
        with open_client(service) as client:
            status: int = send(client, make_item()).status_code
            return status

    assert correct() == 201
    server.pause()
    try:
        with ThreadPoolExecutor(20) as pool:
            waiting = [pool.submit(correct) for _ in range(20)]
            for _ in range(3):
                assert service.ask(headers=bearer("acme")).status_code == 200
                assert service.readiness() == 200
            done = [each for each in waiting if each.done()]
            assert not done, "predictions are answered while feedback waits"
            assert {each.result() for each in waiting} == {503}
        service.stop()
    finally:
        server.go_on()


def test_nothing_acknowledged_is_lost_or_doubled_when_the_database_is_killed(
    server: PostgreSQL, process: tuple[Process, str]
) -> None:
    service, name = process
    answers: list[int] = []
    sent: dict[str, int] = {}
    killed, ended = threading.Event(), threading.Event()

    def correct(tenant: str) -> None:
        with open_client(service, tenant) as client:
            for number in itertools.count():
                sent[tenant] = number
                if number >= 100 and killed.is_set():
                    return
                item = make_item(number)
                while (status := send(client, item).status_code) == 503:
                    answers.append(status)
                    if ended.wait(0.1):
                        return
                answers.append(status)

    def predict() -> set[int]:
        statuses = set()
        with open_client(service) as client:
            while not ended.wait(0.01):
                statuses.add(client.post("/v1/predict", json=BODY).status_code)
        return statuses

    with ThreadPoolExecutor() as pool:
        try:
            correcting = [pool.submit(correct, tenant) for tenant in TENANTS]
            predicting = pool.submit(predict)
            wait_until(lambda: answers.count(201) > 40)
            server.kill()
            wait_until(lambda: 503 in answers)
            killed.set()
            server.start()
            for each in correcting:
                each.result()
        finally:
            killed.set()
            ended.set()
        assert predicting.result() == {200}

    rows = server.run_sql("SELECT tenant, count(*) FROM feedback GROUP BY 1", name)
    assert sorted(rows.split()) == [f"{name}|{sent[name]}" for name in TENANTS]
    # A 200 tells of a commit whose answer was lost.
    assert answers.count(201) + answers.count(200) == sum(sent.values()) >= 200


def test_documentation_lists_the_settings_and_the_problems() -> None:
    page = (ROOT / "docs" / "database.md").read_text(encoding="utf-8")
    problems = (ROOT / "docs" / "problems.md").read_text(encoding="utf-8")

    for name, field in FeedbackSettings.model_fields.items():
        if name not in ServingSettings.model_fields:
            assert f"| `{name.upper()}` |" in page
            assert str(field.description) in page
    for problem in (plugin.CONFLICT, plugin.UNAVAILABLE):
        row = f"| `{problem.uri}` | {problem.status} | {problem.title} |"
        assert row in problems
