"""The page of the demo, with the service and with one that answers as told."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest

from app.auth import hash_key
from app.examples import EXAMPLES
from serving.testing import ROOT
from tests.conftest import Start
from tests.demo.test_form import make_document

testing = pytest.importorskip(
    "streamlit.testing.v1",
    reason="Streamlit is not installed: make .venv/.demo installs it.",
)

SAMPLE = {
    "text": "hello",
    "grade": 2,
    "room": "cellar",
    "colour": "blue",
    "age": 30,
    "height": 1.75,
    "member": True,
    "place": [52.5, 13.4],
}
PREDICTION = {"id": "p1", "label": "yes", "score": 0.8}
ANSWER = {"predictions": [PREDICTION], "model_version": "m1"}


def open_page(url: str, monkeypatch: pytest.MonkeyPatch, key: str = "") -> Any:
    """Open the page of a service."""
    monkeypatch.setenv("URL", url)
    monkeypatch.setenv("API_KEY", key)
    page = testing.AppTest.from_file(str(ROOT / "demo/page.py"), default_timeout=30)
    return page.run()


def click(page: Any, label: str) -> Any:
    """Click the button with that label."""
    (button,) = (one for one in page.button if one.label == label)
    return button.click().run()


def errors(page: Any) -> str:
    """Return what went wrong, as the page says it; a traceback fails the test."""
    assert not page.exception
    return "\n".join(one.value for one in page.error)


class Stub(ThreadingHTTPServer):
    """A service that answers as it is told, and keeps what it is asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.answers: dict[str, tuple[int, Any]] = {"/v1/predict": (200, ANSWER)}
        self.asked: list[Any] = []
        document = make_document() | {"info": {"title": "stub"}}
        document["components"]["schemas"]["Instance"]["examples"] = [SAMPLE]
        self.answers["/openapi.json"] = (200, document)
        self.answers["/v1/feedback"] = (200, {})


class Handler(BaseHTTPRequestHandler):
    """Answer with what the server has for the path."""

    server: Stub

    def do_GET(self) -> None:
        """Answer a GET."""
        self.answer()

    def do_POST(self) -> None:
        """Keep the body, and answer."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(json.loads(body))
        self.answer()

    def answer(self) -> None:
        """Send the answer."""
        status, content = self.server.answers[self.path]
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def stub() -> Iterator[Stub]:
    """A stub that runs."""
    with Stub() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_each_sample_fills_the_form_and_its_answer_is_shown(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = start().ready().url
    page = open_page(url, monkeypatch)
    assert errors(page) == "" and not page.metric

    for place, sample in enumerate(EXAMPLES[:2]):
        page.selectbox[0].select_index(place).run()
        page = click(page, "Predict")

        assert errors(page) == ""
        answer = httpx2.post(f"{url}/v1/predict", json={"instances": [sample]}).json()
        (prediction,) = answer["predictions"]
        (shown,) = page.metric
        if "value" in prediction:
            assert shown.value == f"{prediction['value']:g}"
        else:
            assert shown.value == prediction.get("label", "I do not know")
            assert page.get("vega_lite_chart") or page.get("arrow_vega_lite_chart")


def test_the_page_sends_the_key_of_the_variable(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = start(API_KEYS=f"me:{hash_key(b'secret').hex()}").ready().url

    refused = click(open_page(url, monkeypatch), "Predict")
    assert "answers 401" in errors(refused) and "API_KEY" in errors(refused)

    accepted = click(open_page(url, monkeypatch, key="secret"), "Predict")
    assert errors(accepted) == "" and accepted.metric


def test_the_page_says_that_the_service_is_down_and_tries_again(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_page("http://127.0.0.1:1", monkeypatch)
    assert "No service at http://127.0.0.1:1" in errors(page)

    monkeypatch.setenv("URL", stub.url)
    page = click(page, "Try again")

    assert errors(page) == "" and page.title[0].value == "stub"


@pytest.mark.parametrize(
    ("status", "problem", "said"),
    [
        (503, {"detail": "The model is not loaded."}, "The model is not loaded."),
        (
            422,
            {
                "detail": "1 mistake.",
                "errors": [{"pointer": "/instances/0/age", "detail": "Too old"}],
            },
            "/instances/0/age: Too old",
        ),
    ],
)
def test_a_refusal_is_shown_in_the_words_of_the_service(
    stub: Stub,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    problem: Any,
    said: str,
) -> None:
    stub.answers["/v1/predict"] = (status, problem)

    page = click(open_page(stub.url, monkeypatch), "Predict")

    assert f"answers {status}" in errors(page) and said in errors(page)
    assert not page.metric


def test_every_kind_of_field_is_sent_as_its_type(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_page(stub.url, monkeypatch)
    age, *_ = page.number_input
    age.set_value(31)

    click(page, "Predict")

    (body,) = stub.asked
    (instance,) = body["instances"]
    assert instance == SAMPLE | {"age": 31, "note": None, "guest": None, "extra": None}
    assert isinstance(instance["height"], float) and instance["member"] is True


def test_what_is_right_and_what_is_wrong_is_sent_once(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = click(open_page(stub.url, monkeypatch), "Predict")
    stub.answers["/v1/feedback"] = (503, {"detail": "The database is down."})
    (truth,) = (one for one in page.selectbox if "it is" in one.label)
    truth.select("no")
    page = click(page, "Wrong")
    assert "The database is down." in errors(page)

    stub.answers["/v1/feedback"] = (200, {})
    page = click(page, "Wrong")

    assert errors(page) == "" and "Thank you" in page.success[0].value
    _, first, again = stub.asked
    assert first == again, "the same item has the same id"
    (item,) = again["feedback"]
    assert item == {
        "id": item["id"],
        "prediction_id": "p1",
        "instance": stub.asked[0]["instances"][0],
        "prediction": {"label": "yes", "score": 0.8, "model_version": "m1"},
        "source": "demo",
        "label": "no",
    }

    page = click(click(page, "Predict"), "Right")

    (item,) = stub.asked[-1]["feedback"]
    assert item["correct"] is True and "label" not in item
    assert item["id"] != first["feedback"][0]["id"]


def test_a_service_without_feedback_is_not_asked_for_any(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    del stub.answers["/openapi.json"][1]["paths"]["/v1/feedback"]

    page = click(open_page(stub.url, monkeypatch), "Predict")

    assert page.metric and [one.label for one in page.button] == ["Predict"]
