"""The OpenAPI document says what the service does."""

import re
import subprocess
import sys
from pathlib import Path

from fastapi.testclient import TestClient

from app.contract import Instance
from app.examples import EXAMPLES
from serving.testing import ROOT
from tests.conftest import Start


def test_every_answer_conforms_to_the_openapi_document(start: Start) -> None:
    process = start().ready()
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            "--config-file",
            "tests/app/schemathesis.toml",
        ]
        + ["run", f"{process.url}/openapi.json", "--max-examples", "50"]
        + ["--generation-deterministic", "--no-color"]
        # No operation leads to another, so there are no sequences to try.
        + ["--phases", "examples,coverage,fuzzing"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout[-4000:]
    # Warnings, such as of an endpoint that mostly answers 404, are no mistakes.
    assert re.search(r"\b([1-9]\d*) generated, \1 passed", done.stdout), done.stdout
    assert "Unresolvable" not in done.stdout


def test_every_documented_error_is_a_problem(client: TestClient) -> None:
    document = client.get("/openapi.json").json()

    for path in document["paths"].values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    assert list(response["content"]) == ["application/problem+json"]


def test_the_document_shows_the_samples(client: TestClient) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]

    # FastAPI leaves out what is None; the engine puts it back where it is required.
    shown = [
        {
            name: value
            for name, value in sample.items()
            if value is not None or Instance.model_fields[name].is_required()
        }
        for sample in EXAMPLES
    ]
    assert schemas["Instance"]["examples"] == shown
