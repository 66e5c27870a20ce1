"""Liveness and readiness: no traffic before the model has proven itself."""

import asyncio
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fastapi.testclient import TestClient
from onnx import TensorProto, helper

from serving.batching import Batcher
from serving.model import MODEL_FILE, SIDECAR_FILE, Model, ModelError
from serving.problems import NO_PREDICTION, ProblemError
from serving.testing import wait_until
from tests.conftest import Serve
from tests.serving.toy import Claim


def edit(model_dir: Path, **facts: Any) -> None:
    """Change facts in model.json."""
    path = model_dir / SIDECAR_FILE
    sidecar = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(sidecar | facts), encoding="utf-8")


def remove_model(model_dir: Path) -> None:
    (model_dir / MODEL_FILE).unlink()


def remove_sidecar(model_dir: Path) -> None:
    (model_dir / SIDECAR_FILE).unlink()


def truncate_model(model_dir: Path) -> None:
    content = (model_dir / MODEL_FILE).read_bytes()
    (model_dir / MODEL_FILE).write_bytes(content[: len(content) // 2])


def truncate_sidecar(model_dir: Path) -> None:
    content = (model_dir / SIDECAR_FILE).read_bytes()
    (model_dir / SIDECAR_FILE).write_bytes(content[: len(content) // 2])


def swap_model(model_dir: Path) -> None:
    model = onnx.load(model_dir / MODEL_FILE)
    model.doc_string = "another model"
    onnx.save(model, model_dir / MODEL_FILE)


def rename_input(model_dir: Path) -> None:
    model = onnx.load(model_dir / MODEL_FILE)
    for node in model.graph.node:
        node.input[:] = ["sum" if name == "amount" else name for name in node.input]
    model.graph.input[1].name = "sum"
    replace_model(model_dir, model.SerializeToString())


def write_nonsense(model_dir: Path) -> None:
    replace_model(model_dir, b"this is no ONNX")


def expect_another_answer(model_dir: Path) -> None:
    sidecar = json.loads((model_dir / SIDECAR_FILE).read_text(encoding="utf-8"))
    edit(model_dir, golden_answer=sidecar["golden_answer"][::-1])


def drop_a_label(model_dir: Path) -> None:
    sidecar = json.loads((model_dir / SIDECAR_FILE).read_text(encoding="utf-8"))
    edit(model_dir, labels=sidecar["labels"][1:])


def retype_a_field(model_dir: Path) -> None:
    edit(model_dir, fields={"note": "text", "amount": "flag"})


def replace_model(model_dir: Path, content: bytes) -> None:
    """Put another model in, with the hash that belongs to it."""
    (model_dir / MODEL_FILE).write_bytes(content)
    edit(model_dir, sha256=hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (remove_model, "model.onnx cannot be read (No such file or directory)"),
        (remove_sidecar, "model.json cannot be read (No such file or directory)"),
        (truncate_model, "truncated or was swapped"),
        (truncate_sidecar, "model.json is not what training writes"),
        (swap_model, "truncated or was swapped"),
        (write_nonsense, "ONNX Runtime cannot load the model"),
        (
            rename_input,
            "only the contract has amount and only the model takes sum",
        ),
        (expect_another_answer, "golden example gets another answer"),
        (drop_a_label, "labels"),
        (
            retype_a_field,
            "'amount' is a number in the contract, but the model was trained on a flag",
        ),
    ],
)
def test_a_bad_model_never_becomes_ready_and_says_why(
    serve: Serve, model_dir: Path, damage: Callable[[Path], None], reason: str
) -> None:
    damage(model_dir)
    client = serve()
    wait_until(lambda: reason in client.get("/readyz").json()["detail"])

    assert client.get("/readyz").status_code == 503
    assert client.get("/readyz").headers["content-type"] == "application/problem+json"
    assert client.get("/livez").status_code == 200


def test_not_ready_until_the_model_answers_its_golden_example(
    serve: Serve, model_dir: Path
) -> None:
    content = (model_dir / MODEL_FILE).read_bytes()
    # Reading a pipe waits for its writer: loading takes as long as the test likes.
    (model_dir / MODEL_FILE).unlink()
    os.mkfifo(model_dir / MODEL_FILE)
    client = serve()

    assert client.get("/livez").status_code == 200
    assert client.get("/readyz").status_code == 503
    assert client.get("/readyz").json()["detail"] == "The model is being loaded."

    (
        threading.Thread(target=(model_dir / MODEL_FILE).write_bytes, args=(content,))
    ).start()
    wait_until(lambda: client.get("/readyz").status_code == 200)

    assert client.get("/readyz").json() == {"status": "ready"}


def test_a_score_that_is_no_number_is_a_problem_that_names_the_instance(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model.load(model_dir, Claim)
    scores = np.full((3, len(model.labels)), 0.5, dtype=np.float32)
    scores[1] = np.nan
    monkeypatch.setattr(model, "predict", lambda _: scores)

    with pytest.raises(ProblemError, match="no answer to instance 1") as caught:
        model.answer([Claim(note="a dent")] * 3)

    assert caught.value.type is NO_PREDICTION
    assert "without a result" in str(caught.value.detail)


@pytest.mark.parametrize("place", [0, 2, 4])
def test_an_instance_that_the_model_fails_for_fails_alone(
    model_dir: Path, place: int, capfd: pytest.CaptureFixture[str]
) -> None:
    know_notes(model_dir, "dent", "a claim")
    model = Model.load(model_dir, Claim)
    batcher = Batcher(model.answer, lambda _: 0, inline_budget=1)
    claims = [Claim(note="dent")] * 5
    odd = [*claims[:place], Claim(note="scratch"), *claims[place + 1 :]]

    async def ask() -> list[Any]:
        parts = (batcher.submit(part) for part in (claims, odd, claims))
        return await asyncio.gather(*parts, return_exceptions=True)

    first, failed, last = asyncio.run(ask())

    assert len(first) == len(last) == 5
    assert isinstance(failed, ProblemError) and failed.type is NO_PREDICTION
    assert f"no answer to instance {place}," in failed.detail
    assert capfd.readouterr().err == "", "ONNX Runtime wrote to the log"


def test_a_model_that_fails_for_every_instance_is_no_mistake_of_the_client(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model.load(model_dir, Claim)

    def fail(_: object) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(model, "predict", fail)

    with pytest.raises(RuntimeError, match="no memory"):
        model.answer([Claim(note="dent")])


def know_notes(model_dir: Path, *notes: str) -> None:
    """Make the model fail for other notes, as an encoder of categories does."""
    model = onnx.load(model_dir / MODEL_FILE)
    encoder = helper.make_node(
        *("OneHotEncoder", ["note"], ["known"]),
        domain="ai.onnx.ml",
        cats_strings=notes,
        zeros=0,
    )
    model.graph.node.append(encoder)
    known = helper.make_tensor_value_info("known", TensorProto.FLOAT, None)
    model.graph.output.append(known)
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    replace_model(model_dir, model.SerializeToString())


def test_the_expected_time_grows_with_the_batch_and_the_text(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Model, "_time", lambda _, claims: 0.001 * len(claims))
    model = Model.load(model_dir, Claim)
    short, long = Claim(note="dent"), Claim(note="dent " * 1_000)

    assert model.expected_seconds([short]) < model.expected_seconds([short] * 1_000)
    assert model.expected_seconds([short]) < model.expected_seconds([long])


def test_no_directory_is_a_model_error(model_dir: Path) -> None:
    shutil.rmtree(model_dir)

    with pytest.raises(ModelError, match="make train"):
        Model.load(model_dir, Claim)


def test_probes_need_no_body_and_no_model(client: TestClient) -> None:
    assert client.get("/livez").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}
