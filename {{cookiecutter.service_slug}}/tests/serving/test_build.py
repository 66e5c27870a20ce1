"""The engine serves any contract: here a text and a number."""

from fastapi.testclient import TestClient

from serving.build import restore_nulls
from tests.serving.conftest import BODY, PATH


def test_a_contract_with_a_number_is_served(client: TestClient) -> None:
    answer = client.post(PATH, json=BODY).json()

    labels = [verdict["label"] for verdict in answer["verdicts"]]
    assert labels == ["suspicious", "honest"]
    assert answer["model_version"] == client.get("/v1/model").json()["version"]


def test_a_mistake_in_the_number_is_named(client: TestClient) -> None:
    claims = [{"note": "a", "amount": "many"}]

    answer = client.post(PATH, json={"claims": claims})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/claims/0/amount"


def test_an_example_keeps_a_required_field_that_is_none() -> None:
    claim = {"required": ["note", "amount"], "examples": [{"note": "a"}]}

    restore_nulls({"components": {"schemas": {"Claim": claim, "Other": {}}}})

    assert claim["examples"] == [{"note": "a", "amount": None}]
