"""The Open Inference Protocol as others have it: their client, and their document."""

import json
from typing import Any

import jsonschema
import pytest

from tests.conftest import ROOT, Service, make_environment

CLIENT = ROOT / "tests" / "in_service" / "standard_client.py"
REQUIREMENT = "tritonclient[http]>=2.73,<3"
TEXTS = ["turn on the lights in the kitchen", "skip this song"]
MODEL = "intent-service"

pytestmark = pytest.mark.slow(seconds=60)


def record(required: str, **properties: Any) -> dict[str, Any]:
    """The schema of an object; others may have more properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
    }


TEXT, FLAG = {"type": "string"}, {"type": "boolean"}
LIST: dict[str, Any] = {"type": "array"}
TENSOR = {
    "name": TEXT,
    "datatype": TEXT,
    "shape": LIST | {"items": {"type": "integer"}},
}
# What https://github.com/kserve/open-inference-protocol says of the answers.
SERVER = record("name version extensions", name=TEXT, version=TEXT, extensions=LIST)
METADATA = record(
    "name platform inputs outputs",
    name=TEXT,
    versions=LIST | {"items": TEXT},
    platform=TEXT,
    **{
        side: LIST | {"items": record("name datatype shape", **TENSOR)}
        for side in ("inputs", "outputs")
    },
)
ANSWER = record(
    "model_name id outputs",
    model_name=TEXT,
    model_version=TEXT,
    id=TEXT,
    outputs=LIST | {"items": record("name datatype shape data", **TENSOR, data=LIST)},
)


@pytest.fixture(scope="module")
def said(trained: Service) -> dict[str, Any]:
    """What the service said to tritonclient."""
    python = make_environment("tritonclient", REQUIREMENT)
    client = (str(python), str(CLIENT), MODEL, json.dumps(TEXTS))
    done = trained.run("python", "-m", "serving.testing", *client)
    answers: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answers


def test_the_client_finds_the_server_and_the_model(said: dict[str, Any]) -> None:
    assert said["live"] is said["ready"] is True
    assert said["models"] == said["versions"] == [True, False]


@pytest.mark.parametrize("name", ["answer", "of version"])
def test_the_client_gets_what_it_asked_for(said: dict[str, Any], name: str) -> None:
    answer = said[name]

    assert [each["name"] for each in answer["outputs"]] == [
        "score",
        "label",
        "probabilities",
    ]
    assert (answer["id"], answer["model_name"]) == ("42", MODEL)
    assert answer["model_version"] in said["model"]["versions"]
    assert answer["arrays"]["label"] == ["HassTurnOn", "HassMediaNext"]
    assert all(0.5 < score <= 1 for score in answer["arrays"]["score"])


@pytest.mark.parametrize(
    ("what", "status", "says"),
    [
        ("model", "404", f"no model 'other': the model of this service is '{MODEL}'"),
        ("input", "422", "'words' does not exist; the inputs are text"),
        ("value", "422", "'text' breaks the contract in row 1"),
        ("output", "422", "'value' does not exist; the outputs are label, score,"),
        ("binary input", "415", "send the values in `data` (binary_data=False)"),
        ("binary outputs", "422", "ask for each output with binary_data=False"),
    ],
)
def test_the_client_is_told_what_is_wrong(
    said: dict[str, Any], what: str, status: str, says: str
) -> None:
    found, message = said["refusals"][what]

    assert found == status
    assert says in message


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("server", SERVER),
        ("/v2", SERVER),
        ("/v2/", SERVER),
        ("/v2/health/live", record("live", live=FLAG)),
        # The Markdown names `live`, and clients look for `ready`.
        ("/v2/health/ready", record("live ready", live=FLAG, ready=FLAG)),
        ("model", METADATA),
        ("answer", ANSWER),
        ("of version", ANSWER),
    ],
)
def test_answers_have_the_form_that_the_protocol_says(
    said: dict[str, Any], name: str, schema: dict[str, Any]
) -> None:
    jsonschema.validate(said[name], schema)
