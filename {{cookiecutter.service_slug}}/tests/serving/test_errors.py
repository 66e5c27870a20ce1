"""Every error is a problem document (RFC 9457) that says what to do."""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from pydantic import TypeAdapter, create_model

from serving.problems import MAX_LISTED, UNSUPPORTED_CODING, Problem, ProblemError
from serving.testing import wait_until
from serving.validation import MAX_MISTAKES, BoundedValidator
from tests.conftest import Serve
from tests.serving.conftest import BODY, PATH
from tests.serving.toy import MAX_CLAIMS, MAX_NOTE

JSON = {"Content-Type": "application/json"}
GOOD = b'{"claims": [{"note": "a dent"}]}'


def problem(response: Response, status: int) -> Problem:
    """The problem document of an answer that must be one."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document = Problem.model_validate_json(response.content)
    assert document.status == status
    return document


def post(client: TestClient, body: str | bytes | Iterator[bytes]) -> Response:
    """Send bytes that call themselves JSON."""
    return client.post(PATH, content=body, headers=JSON)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"claims": [{"note": "\xff\xfe"}]}', b"[" * 100_000],
    ids=["empty", "cut", "bad UTF-8", "deep"],
)
def test_a_body_that_is_no_json_is_400(client: TestClient, body: bytes) -> None:
    assert "not valid JSON" in problem(post(client, body), 400).detail


@pytest.mark.parametrize(
    ("body", "pointer", "says"),
    [
        ("{}", "/claims", "required"),
        ("[]", "", "object"),
        ('{"claims": []}', "/claims", "at least 1"),
        ('{"claims": [{}]}', "/claims/0/note", "required"),
        ('{"claims": [{"note": 1}]}', "/claims/0/note", "string"),
        ('{"claims": [{"note": ""}]}', "/claims/0/note", "at least 1"),
        ('{"claims": [{"note": "a", "x": 1}]}', "/claims/0/x", "not permitted"),
        ('{"claims": [{"note": "a"}], "a/b": 1}', "/a~1b", "not permitted"),
        ('{"claims": [{"note": "a"}], "urgent": 1}', "/urgent", "bool"),
        (
            '{"claims": [{"note": "%s"}]}' % ("x" * (MAX_NOTE + 1)),
            "/claims/0/note",
            "at most",
        ),
        (
            '{"claims": [%s]}' % ",".join(["{}"] * (MAX_CLAIMS + 1)),
            "/claims",
            "at most",
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
    body = '{"claims": [{"note": 1}, {"note": "fine"}, {"not": "a"}]}'

    errors = problem(post(client, body), 422).errors or []

    assert {mistake.pointer for mistake in errors} == {
        *("/claims/0/note", "/claims/2/note", "/claims/2/not")
    }


def test_a_body_over_the_limit_is_413(serve: Serve) -> None:
    client = serve(max_body_bytes=100)

    def parts() -> Iterator[bytes]:
        for _ in range(3):
            yield b"x" * 60

    assert "100 bytes" in problem(post(client, b"x" * 101), 413).detail
    unannounced = post(client, parts())
    assert "content-length" not in unannounced.request.headers
    problem(unannounced, 413)


def test_a_size_of_five_thousand_digits_is_no_crash(client: TestClient) -> None:
    size = {"Content-Length": "9" * 5_000, **JSON}
    problem(client.post(PATH, content="{}", headers=size), 413)


def test_more_bytes_than_may_be_in_work_are_rejected(serve: Serve) -> None:
    client = serve(max_bytes_in_work=1_000)
    wait_until(lambda: client.get("/readyz").status_code == 200)
    admission = client.app.state.service.admission  # type: ignore[attr-defined]

    admission.bytes = 1_001 - len(GOOD)
    rejected = post(client, GOOD)
    assert "limit of 1000 bytes" in problem(rejected, 503).detail
    assert rejected.headers["retry-after"] == "1"

    admission.bytes = 1_000 - len(GOOD)
    assert post(client, GOOD).status_code == 200
    admission.bytes = 0
    assert post(client, b" " * 2_000 + GOOD).status_code == 200  # it is alone


def test_bytes_in_work_are_given_back_after_every_answer(client: TestClient) -> None:
    service = client.app.state.service  # type: ignore[attr-defined]

    for body in (GOOD, b"{}", b"{", iter([b"{}"])):
        post(client, body)

    assert service.admission.bytes == 0


@pytest.mark.parametrize("media_type", ["text/plain", "application/xml", ""])
def test_another_media_type_is_415(client: TestClient, media_type: str) -> None:
    headers = {"Content-Type": media_type}
    response = client.post(PATH, content="{}", headers=headers)

    assert "application/json" in problem(response, 415).detail


def test_an_unknown_path_is_404(client: TestClient) -> None:
    problem(client.get("/v1/nothing"), 404)
    problem(client.post(f"{PATH}/"), 404)


def test_another_method_is_405_and_names_the_right_one(client: TestClient) -> None:
    response = client.get(PATH)

    problem(response, 405)
    assert response.headers["allow"] == "POST"


def test_a_defect_is_500_and_keeps_its_message_to_itself(client: TestClient) -> None:
    response = client.post("/v1/crash", json=BODY)

    assert "this endpoint" not in problem(response, 500).model_dump_json()
    assert response.headers["connection"] == "close"


def test_a_failing_model_fails_its_requests_and_no_others(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as broken:
        broken.setattr("onnxruntime.InferenceSession.run", fail)
        problem(post(client, GOOD), 500)

    assert post(client, GOOD).status_code == 200


def test_predictions_before_the_service_is_ready_are_503(
    serve: Serve, model_dir: Path
) -> None:
    (model_dir / "model.onnx").unlink()
    client = serve()
    wait_until(lambda: "cannot be read" in client.get("/readyz").text)

    response = post(client, GOOD)

    assert "model.onnx cannot be read" in problem(response, 503).detail
    assert response.headers["retry-after"] == "1"
    problem(client.get("/v1/model"), 503)


def claims(*given: dict[str, object]) -> str:
    return json.dumps({"claims": given})


def test_the_first_mistakes_are_listed_and_all_are_counted(client: TestClient) -> None:
    fields: dict[str, object] = {f"f{number}": 1 for number in range(1_000)}

    found = problem(post(client, claims({"note": "a", **fields})), 422)

    assert len(found.errors or []) == MAX_LISTED
    assert "in 1000 place(s)" in found.detail
    assert "`errors` lists the first 100" in found.detail


def test_a_body_with_very_many_mistakes_is_read_up_to_the_first_bad_item(
    client: TestClient,
) -> None:
    bad: dict[str, object] = {f"f{number}": 1 for number in range(80)}
    good: dict[str, object] = {"note": "a"}

    answer = post(client, claims(good, *[bad] * 999))

    found = problem(answer, 422)
    assert len(answer.content) < 20_000
    assert "at least 81 place(s)" in found.detail  # 80 and the missing note
    assert {each.pointer.split("/")[2] for each in found.errors or []} == {"1"}


@pytest.mark.parametrize("name", ["choices", "default", "fields", "metadata", "type"])
def test_a_field_may_have_the_name_of_a_keyword_of_schemas(name: str) -> None:
    fields: dict[str, Any] = {name: (list[int], ...)}
    model = create_model("Model", **fields)
    validator = BoundedValidator(TypeAdapter(model))
    body = json.dumps({name: ["not a number"] * 2 * MAX_MISTAKES})

    with pytest.raises(ProblemError, match="at least 1 place"):
        validator.parse(body.encode())


def test_more_mistakes_than_can_be_listed_are_counted(client: TestClient) -> None:
    answer = post(client, json.dumps({f"{number}": 1 for number in range(20_000)}))

    assert "at least 20001 place(s)" in problem(answer, 422).detail
    assert len(answer.content) < 1_000


def test_a_large_body_is_answered_like_a_small_one(client: TestClient) -> None:
    answer = post(client, claims(*[{"note": "a dent", "amount": 3.0}] * MAX_CLAIMS))

    assert answer.status_code == 200
    assert len(answer.json()["verdicts"]) == MAX_CLAIMS


@pytest.mark.parametrize("path", [PATH, "/v1/nothing"])
def test_what_a_client_sent_comes_back_cut(client: TestClient, path: str) -> None:
    long = "x" * 30_000
    answers = [
        client.post(path, content="{}", headers={"Content-Type": long}),
        client.post(path, content="{}", headers={"Content-Encoding": long}),
        post(client, json.dumps({long: 1})),
        client.request(long, path),
    ]

    assert all(len(answer.content) < 1_000 for answer in answers)


@pytest.mark.parametrize("coding", ["gzip", "br", "GZIP, identity"])
def test_a_content_coding_is_415_and_says_what_is_taken(
    client: TestClient, coding: str
) -> None:
    headers = JSON | {"Content-Encoding": coding}
    answer = client.post(PATH, content=GOOD, headers=headers)

    found = problem(answer, 415)
    assert found.type == UNSUPPORTED_CODING.uri
    assert coding in found.detail
    assert answer.headers["accept-encoding"] == "identity"
    plain = client.post(PATH, content=GOOD, headers=JSON | {"Content-Encoding": ""})
    assert plain.status_code == 200


def test_a_byte_order_mark_is_skipped(client: TestClient) -> None:
    assert post(client, codecs.BOM_UTF8 + GOOD).status_code == 200
