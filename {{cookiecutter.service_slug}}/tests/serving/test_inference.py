"""The Open Inference Protocol: its routes, tensors of any contract, its refusals."""

import re
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx2
import numpy as np
import pytest
from fastapi.testclient import TestClient
from pydantic import Field

from serving import inference
from serving.build import build_app, read_project
from serving.contract import Contract
from serving.model import Model
from serving.problems import MAX_LISTED, ProblemError
from serving.service import Service
from serving.settings import ServingSettings
from serving.tensors import InputTensor, TensorReader
from serving.testing import wait_until
from tests.conftest import Process, Serve
from tests.serving.conftest import BODY, PATH
from tests.serving.toy import MAX_CLAIMS, Claim

NAME = read_project().name
MODEL = f"/v2/models/{NAME}"
INFER = f"{MODEL}/infer"

NOTES = {"name": "note", "shape": [2], "datatype": "BYTES", "data": ["a dent", "a"]}
AMOUNTS = {"name": "amount", "shape": [2], "datatype": "FP32", "data": [3.0, -3.0]}
INPUTS = [NOTES, AMOUNTS]


def infer(client: TestClient, *inputs: dict[str, Any], **others: Any) -> dict[str, Any]:
    """Return the outputs by their names."""
    answer = client.post(INFER, json={"inputs": inputs, **others})
    assert answer.status_code == 200, answer.text
    return {output["name"]: output for output in answer.json()["outputs"]}


def test_the_outputs_are_label_score_and_probabilities(client: TestClient) -> None:
    outputs = infer(client, *INPUTS)

    assert outputs["label"] == {
        "name": "label",
        "datatype": "BYTES",
        "shape": [2],
        "data": ["suspicious", "honest"],
    }
    sure = 1 / (1 + np.exp(-3))
    assert outputs["score"]["data"] == pytest.approx([sure, sure])
    assert outputs["probabilities"]["shape"] == [2, 2]
    flat = [1 - sure, sure, sure, 1 - sure]
    assert outputs["probabilities"]["data"] == pytest.approx(flat, abs=1e-6)


def test_the_answer_names_the_model_and_repeats_the_id(client: TestClient) -> None:
    answer = client.post(INFER, json={"id": "42", "inputs": INPUTS}).json()

    version = client.get("/v1/model").json()["version"]
    assert (answer["id"], answer["model_name"]) == ("42", NAME)
    assert answer["model_version"] == version
    assert "id" not in client.post(INFER, json={"inputs": INPUTS}).json()


def test_the_outputs_that_are_asked_for_come_in_that_order(client: TestClient) -> None:
    asked = [{"name": "score"}, {"name": "label", "parameters": {"binary_data": False}}]

    assert list(infer(client, *INPUTS, outputs=asked)) == ["score", "label"]


def test_a_model_is_asked_with_its_version_or_without(client: TestClient) -> None:
    version = client.get(MODEL).json()["versions"][0]
    body = {"inputs": INPUTS}

    plain = client.post(INFER, json=body)
    versioned = client.post(f"{MODEL}/versions/{version}/infer", json=body)

    assert versioned.json() == plain.json()
    assert client.get(f"{MODEL}/versions/{version}").json() == client.get(MODEL).json()
    assert client.get(f"{MODEL}/versions/{version}/ready").json()["ready"] is True


def test_the_metadata_describe_what_is_sent_and_answered(client: TestClient) -> None:
    metadata = client.get(MODEL).json()

    assert metadata["name"] == NAME
    assert metadata["inputs"] == [
        {"name": "note", "datatype": "BYTES", "shape": [-1]},
        {"name": "amount", "datatype": "FP32", "shape": [-1]},
    ]
    assert metadata["outputs"] == [
        {"name": "label", "datatype": "BYTES", "shape": [-1]},
        {"name": "score", "datatype": "FP32", "shape": [-1]},
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]},
    ]


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
def test_the_server_is_described(client: TestClient, path: str) -> None:
    assert client.get(path).json() == {
        "name": NAME,
        "version": read_project().version,
        "extensions": [],
    }


def test_a_server_without_a_model_lives_and_is_not_ready(serve: Serve) -> None:
    client = serve(model_dir="/nowhere")

    assert client.get("/v2/health/live").json() == {"live": True}
    for path in ("/v2/health/ready", f"{MODEL}/ready", MODEL):
        answer = client.get(path)
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert answer.json()["error"] == answer.json()["detail"]
    assert client.post(INFER, json={"inputs": INPUTS}).status_code == 503


def test_a_server_with_a_model_is_ready(client: TestClient) -> None:
    assert client.get("/v2/health/ready").json() == {"live": True, "ready": True}
    assert client.get(f"{MODEL}/ready").json() == {"name": NAME, "ready": True}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/models/other"),
        ("GET", "/v2/models/other/ready"),
        ("POST", "/v2/models/other/infer"),
        ("GET", "/v2/models/other/versions/1"),
        ("POST", "/v2/models/other/versions/1/infer"),
        ("GET", f"{MODEL}/versions/1"),
        ("GET", f"{MODEL}/versions/1/ready"),
        ("POST", f"{MODEL}/versions/1/infer"),
    ],
)
def test_another_model_or_version_is_404_and_says_which_there_is(
    server: Process, method: str, path: str
) -> None:
    url = f"{server.url}{path}"

    answer = httpx2.request(method, url, json={"inputs": INPUTS})

    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:problem-type:unknown-model"
    assert NAME in answer.json()["error"]


def test_a_prediction_is_counted_as_on_any_route(client: TestClient) -> None:
    client.post(INFER, json={"inputs": INPUTS}, headers={"X-Request-ID": "mine"})
    answer = client.post(INFER, json={"inputs": INPUTS}, headers={"X-Request-ID": "me"})

    metrics = client.get("/metrics").text
    assert 'predictions_total{label="suspicious"} 2.0' in metrics
    assert f'route="{INFER}",status="200"}} 2.0' in metrics
    assert answer.headers["x-request-id"] == "me"


def test_the_setting_turns_the_protocol_off(serve: Serve) -> None:
    client = serve(open_inference=False)

    for path in ("/v2", "/v2/health/live", MODEL):
        assert client.get(path).status_code == 404
    assert "/v2" not in " ".join(client.get("/openapi.json").json()["paths"])


def test_a_body_that_declares_no_media_type_is_json(client: TestClient) -> None:
    version = client.get(MODEL).json()["versions"][0]
    content = b'{"inputs": [{"name": "note", "shape": [1], "datatype": "BYTES", '
    content += b'"data": ["a"]}]}'

    for path in (INFER, f"{MODEL}/versions/{version}/infer"):
        assert client.post(path, content=content).status_code == 200
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert client.post(path, content=content, headers=form).status_code == 415
    assert client.post(PATH, content=b"{}").status_code == 415


def test_a_binary_request_is_refused_with_what_to_do(client: TestClient) -> None:
    headers = {"Inference-Header-Content-Length": "10"}

    answer = client.post(INFER, content=b"{}\x00\x01", headers=headers)

    assert answer.status_code == 415
    assert answer.json()["type"] == "urn:problem-type:binary-tensors"
    assert "binary_data=False" in answer.json()["error"]


def without(tensor: dict[str, Any], name: str) -> dict[str, Any]:
    """A tensor without a part."""
    return {key: value for key, value in tensor.items() if key != name}


BINARY = {"parameters": {"binary_data": True}}


@pytest.mark.parametrize(
    ("body", "pointer", "says"),
    [
        ({"inputs": []}, "/inputs", "input 'note' is missing; send it as BYTES of the"),
        ({"inputs": [AMOUNTS]}, "/inputs", "'note' is missing"),
        ({"inputs": [*INPUTS, NOTES]}, "/inputs/2/name", "'note' is sent twice"),
        (
            {"inputs": [NOTES, AMOUNTS | {"name": "sum"}]},
            "/inputs/1/name",
            "'sum' does not exist; the inputs are note, amount",
        ),
        (
            {"inputs": [NOTES | {"datatype": "FP32"}]},
            "/inputs/0/datatype",
            "'note' has the datatype 'FP32'; send it as BYTES",
        ),
        (
            {"inputs": [NOTES, AMOUNTS | {"datatype": "BYTES"}]},
            "/inputs/1/datatype",
            "'amount' has the datatype 'BYTES'; send it as FP32",
        ),
        (
            {"inputs": [NOTES | {"shape": [1, 2]}]},
            "/inputs/0/shape",
            r"'note' has the shape \[1, 2\]; send \[n\]",
        ),
        (
            {"inputs": [NOTES | {"shape": []}]},
            "/inputs/0/shape",
            rf"send from 1 to {MAX_CLAIMS} rows",
        ),
        (
            {"inputs": [NOTES | {"shape": [0], "data": []}]},
            "/inputs/0/shape",
            "send from 1 to",
        ),
        (
            {"inputs": [NOTES | {"shape": [MAX_CLAIMS + 1]}]},
            "/inputs/0/shape",
            f"send from 1 to {MAX_CLAIMS} rows",
        ),
        (
            {"inputs": [NOTES | {"shape": [3]}]},
            "/inputs/0/data",
            r"has 2 values; the shape \[3\] takes 3",
        ),
        (
            {"inputs": [NOTES | {"shape": [2, 1], "data": [["a"], ["b", "c"]]}]},
            "/inputs/0/data",
            r"not of the shape \[2, 1\]",
        ),
        (
            {"inputs": [NOTES, AMOUNTS | {"shape": [1], "data": [1]}]},
            "/inputs",
            "different numbers of rows: 'note' has 2, 'amount' has 1",
        ),
        ({"inputs": [without(NOTES, "data")]}, "/inputs/0/data", "has no `data`"),
        (
            {
                "inputs": [
                    without(NOTES, "data") | {"parameters": {"binary_data_size": 9}}
                ]
            },
            "/inputs/0/data",
            "is binary, which this service does not have",
        ),
        (
            {"inputs": [NOTES, AMOUNTS | {"data": [1, "2"]}]},
            "/inputs/1/data/1",
            "'amount' breaks the contract in row 1: .*valid number",
        ),
        (
            {"inputs": [AMOUNTS, NOTES | {"data": ["a", ""]}]},
            "/inputs/1/data/1",
            "'note' breaks the contract in row 1: .*at least 1 character",
        ),
        ({"inputs": [without(NOTES, "shape")]}, "/inputs/0/shape", "required"),
        ({"inputs": INPUTS, "output": []}, "/output", "not permitted"),
        (
            {"inputs": INPUTS, "outputs": [{"name": "value"}]},
            "/outputs/0/name",
            "'value' does not exist; the outputs are label, score, probabilities",
        ),
        (
            {"inputs": INPUTS, "outputs": [{"name": "score"}, {"name": "score"}]},
            "/outputs/1/name",
            "'score' is asked for twice",
        ),
        (
            {"inputs": INPUTS, "outputs": [{"name": "score", **BINARY}]},
            "/outputs/0/parameters/binary_data",
            "'score' is asked for in binary form.*binary_data=False",
        ),
        (
            {"inputs": INPUTS, "parameters": {"binary_data_output": True}},
            "/parameters/binary_data_output",
            "binary_data=False",
        ),
        (
            {
                "inputs": INPUTS,
                "outputs": [{"name": "label", "parameters": {"classification": 1}}],
            },
            "/outputs/0/parameters/classification",
            "an extension that this service does not have",
        ),
    ],
)
def test_a_mistake_is_422_and_says_where_why_and_what_to_send(
    server: Process, body: dict[str, Any], pointer: str, says: str
) -> None:
    answer = httpx2.post(f"{server.url}{INFER}", json=body)

    assert answer.status_code == 422
    mistake = answer.json()["errors"][0]
    assert mistake["pointer"] == pointer
    assert re.search(says, mistake["detail"]), mistake
    assert mistake["detail"].rstrip(".") in answer.json()["error"]


def test_very_many_outputs_are_read_up_to_what_is_listed(client: TestClient) -> None:
    outputs = [{"name": f"x{number}"} for number in range(2_000)] * 2

    answer = client.post(INFER, json={"inputs": INPUTS, "outputs": outputs})

    assert answer.status_code == 422
    assert "in at least 100 place(s)" in answer.json()["detail"]
    assert len(answer.json()["errors"]) == 100


def test_problems_of_other_paths_have_no_error(client: TestClient) -> None:
    assert "error" not in client.post(PATH, json={}).json()
    assert "error" in client.get("/v2/nothing").json()


def test_the_limits_are_those_of_all_routes(serve: Serve) -> None:
    client = serve(max_body_bytes=50)

    answer = client.post(INFER, json={"inputs": INPUTS})

    assert answer.status_code == 413
    assert "larger than 50 bytes" in answer.json()["error"]


def test_many_rows_are_answered_in_their_order(client: TestClient) -> None:
    amounts = [float(number % 7 - 3) for number in range(MAX_CLAIMS)]
    rows = [
        {"name": "note", "shape": [MAX_CLAIMS], "datatype": "BYTES"}
        | {"data": ["a claim of some length"] * MAX_CLAIMS},
        {"name": "amount", "shape": [MAX_CLAIMS, 1], "datatype": "FP64"}
        | {"data": [[amount] for amount in amounts]},
    ]

    shares = np.reshape(infer(client, *rows)["probabilities"]["data"], (-1, 2))

    np.testing.assert_allclose(shares[:, 1], 1 / (1 + np.exp(-np.array(amounts))), 1e-5)


def test_both_apis_answer_alike(client: TestClient) -> None:
    verdicts = client.post(PATH, json=BODY).json()["verdicts"]
    claims = BODY["claims"]
    outputs = infer(
        client,
        *(
            {"name": name, "shape": [2], "datatype": datatype}
            | {"data": [claim[name] for claim in claims]}
            for name, datatype in (("note", "BYTES"), ("amount", "FP64"))
        ),
    )

    assert outputs["label"]["data"] == [verdict["label"] for verdict in verdicts]
    assert outputs["score"]["data"] == [verdict["score"] for verdict in verdicts]


class Secretive(Claim):
    """A claim whose amount its owner keeps to itself."""

    amount: float = Field(0.0, exclude=True)


def test_a_field_that_is_excluded_is_kept_out_of_the_log_of_texts(
    model_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = ServingSettings(model_dir=model_dir)
    service = Service(settings, lambda: Model.load(model_dir, Secretive))
    app = build_app(service, [inference.router(service, Secretive, 10, True)])
    with TestClient(app) as client, caplog.at_level("INFO", "serving.inference"):
        wait_until(lambda: client.get("/readyz").status_code == 200)
        infer(client, *INPUTS)

    (record,) = (one for one in caplog.records if one.message == "Predicted")
    assert vars(record)["instances"] == [{"note": "a dent"}, {"note": "a"}]


def test_a_model_that_abstains_gives_an_empty_label(
    serve: Serve, model_dir: Path
) -> None:
    file = model_dir / "model.json"
    file.write_text(
        file.read_text().replace('"metrics"', '"threshold": 1.0, "metrics"')
    )
    client = serve()
    wait_until(lambda: client.get("/readyz").status_code == 200)

    assert infer(client, *INPUTS)["label"]["data"] == ["", ""]


class Colour(Enum):
    """Choices with values."""

    RED = "red"
    BLUE = "blue"


class Everything(Contract):
    """Each kind of field, required or not."""

    colour: Colour
    size: Literal[1, 2, 3]
    mixed: Literal["a", 1, None]
    level: Literal["low", "high"] | None
    count: int | None
    ratio: float | None
    flag: bool
    note: Annotated[str, Field(min_length=1)] | None
    point: Annotated[list[float], Field(min_length=2, max_length=2)]
    cells: Annotated[list[int], Field(min_length=2, max_length=2)] | None


TENSORS: dict[str, tuple[str, list[int], list[Any]]] = {
    "colour": ("BYTES", [2], ["red", "blue"]),
    "size": ("INT32", [2, 1], [1, 3]),
    "mixed": ("BYTES", [2], ["a", "1"]),
    "level": ("BYTES", [2], ["low", ""]),
    "count": ("FP64", [2], [3.0, float("nan")]),
    "ratio": ("FP32", [2], [float("nan"), 0.5]),
    "flag": ("BOOL", [2], [True, False]),
    "note": ("BYTES", [2], ["", "b"]),
    "point": ("FP32", [2, 2], [1.0, 2.0, 3.0, 4.0]),
    "cells": ("INT64", [2, 2], [[1, 2], [None, None]]),
}
EXPECTED = [
    {"colour": Colour.RED, "size": 1, "mixed": "a", "level": "low", "count": 3}
    | {"ratio": None, "flag": True, "note": None, "point": [1, 2], "cells": [1, 2]},
    {"colour": Colour.BLUE, "size": 3, "mixed": 1, "level": None, "count": None}
    | {"ratio": 0.5, "flag": False, "note": "b", "point": [3, 4], "cells": None},
]


def tensors(**others: tuple[str, list[int], list[Any]]) -> list[InputTensor]:
    """The tensors of two rows, with others in place of some."""
    return [
        InputTensor(name=name, shape=shape, datatype=datatype, data=data)
        for name, (datatype, shape, data) in {**TENSORS, **others}.items()
    ]


def test_every_kind_of_field_is_read() -> None:
    reader = TensorReader(Everything, 10)

    assert [row.model_dump() for row in reader.read(tensors())] == EXPECTED


@pytest.mark.parametrize(
    ("name", "tensor", "expected"),
    [
        ("cells", ("INT64", [2, 2], [[1, 2], None]), [[1, 2], None]),
        ("cells", ("INT64", [2, 2], [None, [1, 2]]), [None, [1, 2]]),
        ("cells", ("INT64", [2, 2], [None, None]), [None, None]),
        ("cells", ("INT64", [2, 2], [None, None, 1, 2]), [None, [1, 2]]),
        ("cells", ("INT64", [2, 2], [None] * 4), [None, None]),
        ("ratio", ("FP32", [2, 1], [[0.5], None]), [0.5, None]),
        ("ratio", ("FP32", [2, 1], [None, 0.5]), [None, 0.5]),
        ("note", ("BYTES", [2, 1], [None, ["b"]]), [None, "b"]),
    ],
)
def test_null_is_a_missing_row_of_an_optional_field(
    name: str, tensor: tuple[str, list[int], list[Any]], expected: list[Any]
) -> None:
    rows = TensorReader(Everything, 10).read(tensors(**{name: tensor}))

    assert [getattr(row, name) for row in rows] == expected


def test_reading_stops_at_as_many_mistakes_as_are_listed() -> None:
    unknown: list[InputTensor] = [
        {"name": f"x{number}", "shape": [1], "datatype": "FP32", "data": [1]}
        for number in range(MAX_LISTED + 50)
    ]

    with pytest.raises(ProblemError, match=f"at least {MAX_LISTED} place"):
        TensorReader(Everything, 10).read(unknown)


def test_every_kind_of_field_is_described() -> None:
    assert TensorReader(Everything, 10).describe() == {
        "colour": ("BYTES", []),
        "size": ("INT64", []),
        "mixed": ("BYTES", []),
        "level": ("BYTES", []),
        "count": ("INT64", []),
        "ratio": ("FP32", []),
        "flag": ("BOOL", []),
        "note": ("BYTES", []),
        "point": ("FP32", [2]),
        "cells": ("INT64", [2]),
    }


@pytest.mark.parametrize(
    ("name", "tensor", "pointer"),
    [
        ("colour", ("BYTES", [2], ["red", "green"]), "/inputs/0/data/1"),
        ("size", ("INT64", [2], [1, 4]), "/inputs/1/data/1"),
        ("count", ("FP32", [2], [1.5, 2.0]), "/inputs/4/data/0"),
        ("ratio", ("FP32", [2], [1.0, float("inf")]), "/inputs/5/data/1"),
        ("flag", ("BOOL", [2], [True, 1]), "/inputs/6/data/1"),
        ("point", ("FP32", [2, 2], [1, 2, 3, float("nan")]), "/inputs/8/data/1"),
        ("point", ("FP32", [2, 2], [[1, 2], None]), "/inputs/8/data"),
        ("point", ("FP32", [2, 3], [1, 2, 3, 4, 5, 6]), "/inputs/8/shape"),
        ("point", ("FP32", [2], [1, 2]), "/inputs/8/shape"),
    ],
)
def test_a_value_that_breaks_the_contract_is_named_by_its_place(
    name: str, tensor: tuple[str, list[int], list[Any]], pointer: str
) -> None:
    with pytest.raises(ProblemError) as caught:
        TensorReader(Everything, 10).read(tensors(**{name: tensor}))

    assert [one.pointer for one in caught.value.errors or ()] == [pointer]
