"""The engine serves any contract: here a text and a number, with a hand-made model."""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import onnx
import pytest
from fastapi import APIRouter
from fastapi.testclient import TestClient
from onnx import TensorProto, helper

from serving.build import build_app
from serving.contract import Contract
from serving.model import MODEL_FILE, OUTPUT, SIDECAR_FILE, Model
from serving.service import Service
from serving.settings import ServingSettings
from serving.testing import wait_until


class Claim(Contract):
    """A contract of another task."""

    text: str
    amount: float


class ClaimRequest(Contract):
    claims: list[Claim]


def make_model(directory: Path) -> None:
    """Write a model that finds a claim suspicious by the sigmoid of its amount."""
    nodes = [
        helper.make_node("Sigmoid", ["amount"], ["yes"]),
        helper.make_node("Sub", ["one", "yes"], ["no"]),
        helper.make_node("Concat", ["no", "yes"], [OUTPUT], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "claims",
        [
            helper.make_tensor_value_info("text", TensorProto.STRING, [None, 1]),
            helper.make_tensor_value_info("amount", TensorProto.FLOAT, [None, 1]),
        ],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    content = model.SerializeToString()
    sidecar: dict[str, Any] = {
        "version": "made by hand",
        "labels": ["honest", "suspicious"],
        "metrics": {},
        "data_hash": "none",
        "git_revision": "none",
        "trained_at": datetime.now(UTC).isoformat(),
        "sha256": hashlib.sha256(content).hexdigest(),
        "training_label_shares": {"honest": 0.5, "suspicious": 0.5},
        "golden_instance": {"text": "a claim", "amount": 0.0},
        "golden_probabilities": [0.5, 0.5],
    }
    onnx.checker.check_model(model)
    (directory / MODEL_FILE).write_bytes(content)
    (directory / SIDECAR_FILE).write_text(json.dumps(sidecar), encoding="utf-8")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    """A client of a service of claims."""
    make_model(tmp_path)
    settings = ServingSettings(model_dir=tmp_path, log_level="critical")
    service = Service(settings, lambda: Model.load(tmp_path, Claim))
    router = APIRouter()

    @router.post("/v1/judge")
    async def judge(request: ClaimRequest) -> list[str]:
        """Name the label of each claim."""
        return [label for label, *_ in await service.batcher.submit(request.claims)]

    with TestClient(build_app(service, [router])) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        yield client


def test_a_contract_with_a_number_is_served(client: TestClient) -> None:
    claims = [{"text": "a", "amount": -3.0}, {"text": "b", "amount": 3.0}]

    answer = client.post("/v1/judge", json={"claims": claims})

    assert answer.json() == ["honest", "suspicious"]


def test_a_mistake_in_the_number_is_named(client: TestClient) -> None:
    claims = [{"text": "a", "amount": "many"}]

    answer = client.post("/v1/judge", json={"claims": claims})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/claims/0/amount"
