"""Every error is a problem document (RFC 9457) that says what to do."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from app.contract import MAX_INSTANCES, MAX_TEXT_LENGTH
from serving.problems import Problem
from serving.testing import wait_until
from tests.conftest import Serve

JSON = {"Content-Type": "application/json"}


def problem(response: Response, status: int) -> Problem:
    """The problem document of an answer that must be one."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document = Problem.model_validate_json(response.content)
    assert document.status == status
    return document


def post(client: TestClient, body: str | bytes) -> Response:
    """Send bytes that call themselves JSON."""
    return client.post("/v1/predict", content=body, headers=JSON)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"instances": [{"text": "\xff\xfe"}]}',
        b'{"instances": [{"text": "\\ud800"}]}',
        b'{"instances": [{"text": "a"}],}',
        b"[" * 100_000,
    ],
    ids=["empty", "cut", "word", "bad UTF-8", "lone surrogate", "comma", "deep"],
)
def test_a_body_that_is_no_json_is_400(client: TestClient, body: bytes) -> None:
    assert "not valid JSON" in problem(post(client, body), 400).detail


@pytest.mark.parametrize(
    ("body", "pointer", "says"),
    [
        ("{}", "/instances", "required"),
        ("[]", "", "object"),
        ('{"instances": []}', "/instances", "at least 1"),
        ('{"instances": [{}]}', "/instances/0/text", "required"),
        ('{"instances": [{"text": 1}]}', "/instances/0/text", "string"),
        ('{"instances": [{"text": null}]}', "/instances/0/text", "string"),
        ('{"instances": [{"text": NaN}]}', "/instances/0/text", "string"),
        ('{"instances": [{"text": ""}]}', "/instances/0/text", "at least 1"),
        ('{"instances": [{"text": "a", "x": 1}]}', "/instances/0/x", "not permitted"),
        ('{"instances": [{"text": "a"}], "a/b": 1}', "/a~1b", "not permitted"),
        (
            '{"instances": [{"text": "a"}], "probabilities": 1}',
            "/probabilities",
            "bool",
        ),
    ],
)
def test_a_body_that_breaks_the_contract_is_422(
    client: TestClient, body: str, pointer: str, says: str
) -> None:
    (mistake,) = problem(post(client, body), 422).errors or []

    assert mistake.pointer == pointer
    assert says in mistake.detail


def test_all_mistakes_are_reported_at_once(client: TestClient) -> None:
    body = '{"instances": [{"text": 1}, {"text": "fine"}, {"txt": "a"}]}'

    pointers = {
        mistake.pointer for mistake in problem(post(client, body), 422).errors or []
    }

    assert pointers == {"/instances/0/text", "/instances/2/text", "/instances/2/txt"}


def test_limits_on_text_and_instances_are_422(client: TestClient) -> None:
    long = {"instances": [{"text": "x" * (MAX_TEXT_LENGTH + 1)}]}
    many = {"instances": [{"text": "x"}] * (MAX_INSTANCES + 1)}

    problem(client.post("/v1/predict", json=long), 422)
    problem(client.post("/v1/predict", json=many), 422)


def test_a_body_over_the_limit_is_413(serve: Serve) -> None:
    client = serve(max_body_bytes=100)
    body = b'{"instances": [{"text": "%s"}]}' % (b"x" * 100)

    assert "100 bytes" in problem(post(client, body), 413).detail


def test_a_body_over_the_limit_is_413_even_if_it_does_not_say_so(serve: Serve) -> None:
    client = serve(max_body_bytes=100)

    def chunks() -> Iterator[bytes]:
        for _ in range(3):
            yield b"x" * 60

    response = client.post("/v1/predict", content=chunks(), headers=JSON)
    assert "content-length" not in response.request.headers
    problem(response, 413)


def test_more_bytes_than_memory_is_meant_for_are_turned_away(serve: Serve) -> None:
    client = serve(max_bytes_in_work=1_000)
    wait_until(lambda: client.get("/readyz").status_code == 200)
    service = client.app.state.service  # type: ignore[attr-defined]
    body = b'{"instances": [{"text": "mute the tv"}]}'

    service.admission.bytes = 1_001 - len(body)
    refused = post(client, body)
    assert "limit of 1000 bytes" in problem(refused, 503).detail
    assert refused.headers["retry-after"] == "1"

    service.admission.bytes = 1_000 - len(body)
    assert post(client, body).status_code == 200
    service.admission.bytes = 0
    assert post(client, b" " * 2_000 + body).status_code == 200  # it is alone


def test_room_is_given_back_whatever_comes_of_a_request(client: TestClient) -> None:
    service = client.app.state.service  # type: ignore[attr-defined]

    def parts() -> Iterator[bytes]:
        yield b"{}"

    for body in (b'{"instances": [{"text": "a"}]}', b"{}", b"{"):
        post(client, body)
    client.post("/v1/predict", content=parts(), headers=JSON)

    assert service.admission.bytes == 0


def test_a_size_of_five_thousand_digits_is_no_crash(client: TestClient) -> None:
    size = {"Content-Length": "9" * 5_000, **JSON}
    problem(client.post("/v1/predict", content="{}", headers=size), 413)


@pytest.mark.parametrize("media_type", ["text/plain", "application/xml", ""])
def test_another_media_type_is_415(client: TestClient, media_type: str) -> None:
    headers = {"Content-Type": media_type}
    response = client.post("/v1/predict", content="{}", headers=headers)

    assert "application/json" in problem(response, 415).detail


def test_a_charset_beside_the_media_type_is_fine(client: TestClient) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    body = '{"instances": [{"text": "mute"}]}'

    assert client.post("/v1/predict", content=body, headers=headers).status_code == 200


def test_an_unknown_path_is_404(client: TestClient) -> None:
    problem(client.get("/v1/nothing"), 404)
    problem(client.post("/v1/predict/"), 404)


def test_another_method_is_405_and_names_the_right_one(client: TestClient) -> None:
    response = client.get("/v1/predict")

    problem(response, 405)
    assert response.headers["allow"] == "POST"


def test_a_defect_is_500_and_keeps_its_secrets(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("app.api.Prediction", fail)
    response = post(client, '{"instances": [{"text": "mute"}]}')

    assert "secret" not in problem(response, 500).model_dump_json()


def test_a_failing_model_fails_its_requests_and_no_others(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as broken:
        broken.setattr("onnxruntime.InferenceSession.run", fail)
        problem(post(client, '{"instances": [{"text": "mute"}]}'), 500)

    assert post(client, '{"instances": [{"text": "mute"}]}').status_code == 200


def test_predictions_before_the_service_is_ready_are_503(
    serve: Serve, model_dir: Any
) -> None:
    (model_dir / "model.onnx").unlink()
    client = serve()
    wait_until(lambda: "cannot be read" in client.get("/readyz").text)

    response = post(client, '{"instances": [{"text": "mute"}]}')

    assert "model.onnx cannot be read" in problem(response, 503).detail
    assert response.headers["retry-after"] == "1"
    problem(client.get("/v1/model"), 503)
