"""POST /v1/predict: what goes in and what comes out."""

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.contract import MAX_INSTANCES, Instance, PredictRequest
from app.examples import EXAMPLES
from serving.model import SIDECAR_FILE
from serving.testing import wait_until
from tests.conftest import BODY, Serve, Start


def ask(client: TestClient, *instances: Any, **options: Any) -> list[dict[str, Any]]:
    """The predictions for some instances."""
    body = {"instances": instances, **options}
    response = client.post("/v1/predict", json=body)
    assert response.status_code == 200, response.text
    predictions: list[dict[str, Any]] = response.json()["predictions"]
    return predictions


def answers(predictions: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """What is the same each time that one asks."""
    return [(each["label"], pytest.approx(each["score"])) for each in predictions]


def test_each_sample_gets_a_label_of_the_model_and_a_score(client: TestClient) -> None:
    labels = client.get("/v1/model").json()["labels"]

    for prediction in ask(client, *EXAMPLES):
        assert set(prediction) == {"id", "label", "score"}
        assert prediction["label"] in labels
        assert 0 < prediction["score"] <= 1


def test_the_golden_instance_is_answered_as_it_was_exported(
    client: TestClient, model_dir: Path
) -> None:
    sidecar = json.loads((model_dir / SIDECAR_FILE).read_text(encoding="utf-8"))
    expected = dict(
        zip(sidecar["labels"], sidecar["golden_probabilities"], strict=True)
    )

    (prediction,) = ask(client, sidecar["golden_instance"], probabilities=True)

    assert prediction["probabilities"] == pytest.approx(expected, abs=1e-4)
    assert prediction["label"] == max(expected, key=expected.__getitem__)
    assert prediction["score"] == prediction["probabilities"][prediction["label"]]


def test_many_instances_are_answered_in_their_order(client: TestClient) -> None:
    alone = [answers(ask(client, example))[0] for example in EXAMPLES]

    assert answers(ask(client, *EXAMPLES * 20)) == alone * 20


def test_the_largest_request_is_answered(client: TestClient) -> None:
    assert len(ask(client, *EXAMPLES[:1] * MAX_INSTANCES)) == MAX_INSTANCES


def test_every_prediction_has_an_id_of_its_own(client: TestClient) -> None:
    predictions = ask(client, *EXAMPLES[:1] * 3)

    assert len({prediction["id"] for prediction in predictions}) == 3


def test_the_answer_names_the_model(client: TestClient) -> None:
    answer = client.post("/v1/predict", json=BODY).json()

    assert answer["model_version"] == client.get("/v1/model").json()["version"]


def texts(instance: Any) -> dict[str, str]:
    """The fields of an instance that are text."""
    return {name: value for name, value in instance.items() if isinstance(value, str)}


def test_case_and_space_do_not_matter(client: TestClient) -> None:
    plain = EXAMPLES[0]
    shouted = {name: f"  {text.upper()}\n" for name, text in texts(plain).items()}

    assert answers(ask(client, plain)) == answers(ask(client, {**plain, **shouted}))


@pytest.mark.parametrize("text", [" ", "🎉", "打开", "\x00"])
def test_unusual_texts_are_answered(client: TestClient, text: str) -> None:
    instance = {**EXAMPLES[0], **dict.fromkeys(texts(EXAMPLES[0]), text)}

    assert ask(client, instance)


def test_an_instance_without_its_fields_is_422(client: TestClient) -> None:
    answer = client.post("/v1/predict", json={"instances": [{}]})

    required = {
        f"/instances/0/{name}"
        for name, field in Instance.model_fields.items()
        if field.is_required()
    }
    assert answer.status_code == 422
    assert {each["pointer"] for each in answer.json()["errors"]} == required


def test_an_instance_too_many_is_422(client: TestClient) -> None:
    body = {"instances": EXAMPLES[:1] * (MAX_INSTANCES + 1)}

    answer = client.post("/v1/predict", json=body)

    assert answer.status_code == 422
    assert [each["pointer"] for each in answer.json()["errors"]] == ["/instances"]


def test_the_model_is_described(client: TestClient) -> None:
    model = client.get("/v1/model").json()

    assert set(model) == {
        *("version", "labels", "metrics", "data_hash", "git_revision", "trained_at")
    }
    assert model["labels"] == sorted(model["labels"])
    assert model["data_hash"].startswith("md5:")


def test_predictions_take_the_fast_path(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "serving"):
        client = serve(log_level="info")
        wait_until(lambda: client.get("/readyz").status_code == 200)

    assert "Fast path: POST /v1/predict" in caplog.text


def test_a_prediction_is_counted_by_its_label(client: TestClient) -> None:
    (prediction,) = ask(client, EXAMPLES[0])

    metrics = client.get("/metrics").text
    counted = 'predictions_total{label="%s"} 1.0' % prediction["label"]
    assert counted in metrics


def test_texts_are_logged_only_if_a_setting_says_so(start: Start) -> None:
    quiet, chatty = start().ready(), start(LOG_TEXTS="true").ready()
    answer = chatty.ask()
    quiet.ask()
    for process in (quiet, chatty):
        process.stop()

    lines = [json.loads(line) for line in chatty.log().splitlines()]
    (line,) = (line for line in lines if "instances" in line)
    request = PredictRequest.model_validate(BODY)
    assert line["instances"] == [each.model_dump() for each in request.instances]
    assert line["labels"] == [answer.json()["predictions"][0]["label"]]
    assert line["request_id"] == answer.headers["x-request-id"]
    assert '"instances"' not in quiet.log()
