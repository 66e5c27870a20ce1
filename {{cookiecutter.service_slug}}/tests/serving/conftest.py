"""Fixtures: the toy service and its model, made by hand in milliseconds."""

import hashlib
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from serving.contract import Task
from serving.fields import OUTPUTS
from serving.model import MODEL_FILE, SIDECAR_FILE
from serving.settings import ServingSettings
from tests.conftest import Process, Subject
from tests.serving.toy import create_app

OUTPUT = OUTPUTS[Task.CLASSIFICATION]
PATH = "/v1/judge"
BODY = {
    "claims": [{"note": "a dent", "amount": 3.0}, {"note": "a scratch", "amount": -3.0}]
}
TOY = Subject(
    lambda **settings: create_app(ServingSettings(**settings)),
    (sys.executable, "-m", "tests.serving"),
    PATH,
    BODY,
)


def make_model(directory: Path) -> Path:
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
            helper.make_tensor_value_info("note", TensorProto.STRING, [None, 1]),
            helper.make_tensor_value_info("amount", TensorProto.FLOAT, [None, 1]),
        ],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.checker.check_model(model)
    content = model.SerializeToString()
    sidecar: dict[str, Any] = {
        "version": "made by hand",
        "task": "classification",
        "fields": {"note": "text", "amount": "number"},
        "labels": ["honest", "suspicious"],
        "metrics": {},
        "refitted": False,
        "data_hash": "none",
        "git_revision": "none",
        "trained_at": datetime.now(UTC).isoformat(),
        "sha256": hashlib.sha256(content).hexdigest(),
        "training_shares": {"honest": 0.75, "suspicious": 0.25},
        "golden_instance": {"note": "a claim", "amount": 1.0},
        "golden_answer": [0.2689414, 0.7310586],
    }
    directory.mkdir()
    (directory / MODEL_FILE).write_bytes(content)
    (directory / SIDECAR_FILE).write_text(json.dumps(sidecar), encoding="utf-8")
    return directory


@pytest.fixture
def subject() -> Subject:
    """The toy service, in the place of the service of `app/`."""
    return TOY


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    """The model of the toy service, to be broken at will."""
    return make_model(tmp_path / "model")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One process with the default settings, for tests that leave it as it is."""
    directory = tmp_path_factory.mktemp("server")
    model_dir = make_model(directory / "model")
    process = Process(TOY, directory / "stderr", MODEL_DIR=str(model_dir)).ready()
    yield process
    process.end()
