"""POST /v1/predict: what goes in and what comes out."""

import json
from bisect import bisect_left
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError

from app.contract import MAX_INSTANCES, Instance, PredictRequest
from app.examples import EXAMPLES
from serving.build import read_project
from serving.contract import TENTHS, ModelInfo
from serving.fields import FieldKind, Kind, describe_kinds, read_kinds
from serving.model import SIDECAR_FILE
from serving.testing import wait_until
from tests.conftest import BODY, Serve, Start

FIELDS = read_kinds(Instance)
# The last digits of float32 depend on how many rows are in a batch.
CLOSE = partial(pytest.approx, rel=1e-4, abs=1e-4)


def ask(client: TestClient, *instances: Any, **options: Any) -> list[dict[str, Any]]:
    """The predictions for some instances."""
    body = {"instances": instances, **options}
    response = client.post("/v1/predict", json=body)
    assert response.status_code == 200, response.text
    predictions: list[dict[str, Any]] = response.json()["predictions"]
    return predictions


def answers(predictions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is the same each time that one asks."""
    return [
        {
            name: CLOSE(value) if isinstance(value, float) else value
            for name, value in prediction.items()
            if name != "id"
        }
        for prediction in predictions
    ]


def test_each_sample_gets_what_the_task_asks_for(client: TestClient) -> None:
    model = client.get("/v1/model").json()

    for prediction in ask(client, *EXAMPLES):
        if model["task"] == "regression":
            assert set(prediction) == {"id", "value"}
            assert isinstance(prediction["value"], float)
        else:
            assert set(prediction) == {"id", "label", "score"}
            assert prediction["label"] in model["labels"]
            assert 0 < prediction["score"] <= 1


def test_the_golden_instance_is_answered_as_it_was_exported(
    client: TestClient, model_dir: Path
) -> None:
    sidecar = json.loads((model_dir / SIDECAR_FILE).read_text(encoding="utf-8"))
    expected = sidecar["golden_answer"]

    (prediction,) = ask(client, sidecar["golden_instance"], probabilities=True)

    if sidecar["task"] == "regression":
        assert prediction["value"] == pytest.approx(expected[0], rel=1e-4)
        return
    by_label = dict(zip(sidecar["labels"], expected, strict=True))
    assert prediction["probabilities"] == pytest.approx(by_label, abs=1e-4)
    assert prediction["label"] == max(by_label, key=by_label.__getitem__)
    assert prediction["score"] == prediction["probabilities"][prediction["label"]]


def test_many_instances_are_answered_in_their_order(client: TestClient) -> None:
    alone = [answers(ask(client, example))[0] for example in EXAMPLES]

    assert answers(ask(client, *EXAMPLES * 20)) == alone * 20


def test_standard_clients_get_the_same_answers(client: TestClient) -> None:
    metadata = client.get(f"/v2/models/{read_project().name}").json()
    tensors = [
        {
            "name": tensor["name"],
            "datatype": tensor["datatype"],
            "shape": [len(EXAMPLES), *tensor["shape"][1:]],
            "data": [sample[tensor["name"]] for sample in EXAMPLES],
        }
        for tensor in metadata["inputs"]
        if all(tensor["name"] in sample for sample in EXAMPLES)
    ]

    answer = client.post(
        f"/v2/models/{metadata['name']}/infer", json={"inputs": tensors}
    )

    outputs = {each["name"]: each["data"] for each in answer.json()["outputs"]}
    for name in outputs.keys() & {"label", "score", "value"}:
        expected = [prediction[name] for prediction in ask(client, *EXAMPLES)]
        assert [
            CLOSE(value) if isinstance(value, float) else value
            for value in outputs[name]
        ] == expected


def test_the_largest_request_is_answered(client: TestClient) -> None:
    assert len(ask(client, *EXAMPLES[:1] * MAX_INSTANCES)) == MAX_INSTANCES


def test_every_prediction_has_an_id_of_its_own(client: TestClient) -> None:
    predictions = ask(client, *EXAMPLES[:1] * 3)

    assert len({prediction["id"] for prediction in predictions}) == 3


def test_the_answer_names_the_model(client: TestClient) -> None:
    answer = client.post("/v1/predict", json=BODY).json()

    assert answer["model_version"] == client.get("/v1/model").json()["version"]


@pytest.mark.parametrize("text", [" ", "🎉", "打开", "\x00", "A  b\n"])
def test_unusual_texts_are_answered_if_the_contract_takes_them(
    client: TestClient, text: str
) -> None:
    names = [field.name for field in FIELDS if field.kind is Kind.TEXT]
    instance = {**EXAMPLES[0], **dict.fromkeys(names, text)}
    try:
        Instance.model_validate_json(json.dumps(instance))
    except ValidationError:
        pytest.skip("app/contract.py refuses it")

    assert ask(client, instance)


def test_an_instance_without_its_fields_is_422(client: TestClient) -> None:
    answer = client.post("/v1/predict", json={"instances": [{"no field": 1}]})

    wrong = {
        f"/instances/0/{name}"
        for name, field in Instance.model_fields.items()
        if field.is_required()
    } | {"/instances/0/no field"}
    assert answer.status_code == 422
    assert {each["pointer"] for each in answer.json()["errors"]} == wrong


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_a_value_of_another_kind_is_422_and_named(
    client: TestClient, field: FieldKind
) -> None:
    wrong: dict[Kind, Any] = {
        Kind.TEXT: 1,
        Kind.CATEGORY: "no choice of it",
        Kind.NUMBER: 1e39,  # float32 cannot hold it
        Kind.FLAG: "no",
        Kind.VECTOR: [0.0] * (field.length + 1),
    }
    instance = {**EXAMPLES[0], field.name: wrong[field.kind]}

    answer = client.post("/v1/predict", json={"instances": [instance]})

    assert answer.status_code == 422
    pointers = {each["pointer"] for each in answer.json()["errors"]}
    assert pointers == {f"/instances/0/{field.name}"}


def test_an_instance_too_many_is_422(client: TestClient) -> None:
    body = {"instances": EXAMPLES[:1] * (MAX_INSTANCES + 1)}

    answer = client.post("/v1/predict", json=body)

    assert answer.status_code == 422
    assert [each["pointer"] for each in answer.json()["errors"]] == ["/instances"]


def test_the_model_is_described(client: TestClient) -> None:
    model = client.get("/v1/model").json()

    assert set(model) == set(ModelInfo.model_fields)
    assert model["fields"] == describe_kinds(FIELDS)
    assert model["labels"] == sorted(model["labels"])
    assert model["deciles"] == sorted(model["deciles"])
    assert bool(model["labels"]) is (model["task"] == "classification")
    assert bool(model["deciles"]) is (model["task"] == "regression")
    assert model["data_hash"].startswith("md5:")


def test_predictions_take_the_fast_path(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "serving"):
        client = serve(log_level="info")
        wait_until(lambda: client.get("/readyz").status_code == 200)

    assert "Fast path: POST /v1/predict" in caplog.text


def test_a_prediction_is_counted_by_its_outcome(client: TestClient) -> None:
    (prediction,) = ask(client, EXAMPLES[0])
    model = client.get("/v1/model").json()

    outcome = prediction.get("label")
    if model["task"] == "regression":
        bounds = model["deciles"][1:-1]
        outcome = TENTHS[bisect_left(bounds, prediction["value"])]
    counted = {
        sample.labels["label"]: sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
        if sample.name == "predictions_total"
    }
    assert counted[str(outcome)] == 1


def test_below_the_threshold_there_is_no_label(serve: Serve, model_dir: Path) -> None:
    sidecar = json.loads((model_dir / SIDECAR_FILE).read_text(encoding="utf-8"))
    if sidecar["task"] == "regression":
        pytest.skip("a value has no score")
    sidecar["threshold"] = 1.0
    (model_dir / SIDECAR_FILE).write_text(json.dumps(sidecar), encoding="utf-8")
    client = serve()
    wait_until(lambda: client.get("/readyz").status_code == 200)

    (prediction,) = ask(client, EXAMPLES[0])

    assert set(prediction) == {"id", "score", "abstained"}
    assert prediction["abstained"] is True
    assert "predictions_abstained_total 1.0" in client.get("/metrics").text


def test_texts_are_logged_only_if_a_setting_says_so(start: Start) -> None:
    quiet, chatty = start().ready(), start(LOG_TEXTS="true").ready()
    answer = chatty.ask()
    quiet.ask()
    metadata = httpx2.get(f"{chatty.url}/v2/models/{read_project().name}").json()
    (sample,) = BODY["instances"]
    tensors = [
        {"name": each["name"], "datatype": each["datatype"]}
        | {"shape": [1, *each["shape"][1:]], "data": [sample[each["name"]]]}
        for each in metadata["inputs"]
        if each["name"] in sample
    ]
    infer = f"{chatty.url}/v2/models/{metadata['name']}/infer"
    assert httpx2.post(infer, json={"inputs": tensors}).status_code == 200
    for process in (quiet, chatty):
        process.stop()

    lines = [json.loads(line) for line in chatty.log().splitlines()]
    line, of_v2 = (line for line in lines if "instances" in line)
    request = PredictRequest.model_validate_json(json.dumps(BODY))
    sent = [
        each.model_dump(mode="json", exclude_computed_fields=True)
        for each in request.instances
    ]
    assert line["instances"] == of_v2["instances"] == sent
    (logged,) = line["predictions"]
    assert answer.json()["predictions"][0].items() <= logged.items()
    assert line["request_id"] == answer.headers["x-request-id"]
    assert '"instances"' not in quiet.log()
