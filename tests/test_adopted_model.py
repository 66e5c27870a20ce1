"""A model that was made elsewhere, from its file to the answers of the service."""

import json
import re
from pathlib import Path

import pytest

from tests.conftest import Service, copy, make_environment, run

pytestmark = pytest.mark.slow(seconds=60)

# As PyTorch's exporter lays a small network out; the answer is known by hand: the first
# label has e^2 times the share of the second.
MAKE = """
import numpy as np, onnx, sys
from onnx import TensorProto, helper, numpy_helper
weights = np.array([[1, 0], [0, 1]], dtype=np.float32)
graph = helper.make_graph(
    [
        helper.make_node("Gemm", ["input", "fc.weight"], ["/fc"], transB=1),
        helper.make_node("Relu", ["/fc"], ["output"]),
    ],
    "main_graph",
    [helper.make_tensor_value_info("input", TensorProto.FLOAT, [sys.argv[2], 2])],
    [helper.make_tensor_value_info("output", TensorProto.FLOAT, [sys.argv[2], 2])],
    [numpy_helper.from_array(weights, "fc.weight")],
)
if sys.argv[2] == "1":
    for one in (*graph.input, *graph.output):
        one.type.tensor_type.shape.dim[0].dim_value = 1
opset = [helper.make_opsetid("", 17)]
onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), sys.argv[1])
"""
# A file of LightGBM, made where LightGBM is.
WRITE = Path(__file__).parent / "in_service" / "lightgbm_model.py"
LIGHTGBM = (
    *("lightgbm>=4.7,<5", "onnxmltools>=1.16,<2", "onnx>=1.23,<2"),
    *("packaging>=25", "pandas>=3.1,<4", "scikit-learn>=1.9,<2"),
)
ASK = """
import json, os, sys, urllib.request
rows = json.load(open(sys.argv[1]))["instances"]
body = json.dumps({"instances": rows, "probabilities": True}).encode()
about = {"Content-Type": "application/json"}
request = urllib.request.Request(os.environ["URL"] + "/v1/predict", body, about)
with urllib.request.urlopen(request, timeout=30) as response:
    predictions = json.load(response)["predictions"]
print(json.dumps([one["probabilities"] for one in predictions]))
"""
SAMPLE = "Weight (kg),Size\n3.0,1.0\n0.5,4.0\n"


@pytest.fixture
def service(default: Service, tmp_path: Path) -> Service:
    """A service of its own, with a sample and nothing trained."""
    service = copy(default, tmp_path)
    (tmp_path / "rows.csv").write_text(SAMPLE, encoding="utf-8")
    return service


def make_model(service: Service, batch: str) -> str:
    """Write the ONNX file beside the service, and return its path."""
    path = service.path.parent / "given.onnx"
    service.run("python", "-c", MAKE, str(path), batch)
    return str(path)


def test_an_onnx_file_is_adopted_asked_and_versioned(service: Service) -> None:
    model = make_model(service, "batch")
    options = (f"MODEL={model}", "LABELS=heavy,large", "LOGITS=1")

    said = service.make("adopt", *options, "SAMPLE=../rows.csv", "YES=1").stdout
    asked = service.run("python", "-m", "serving.testing", "python", "-m", "demo.ask")

    assert "+    weight_kg: float" in said
    assert re.search(r"88\.1% +heavy ", asked.stdout), asked.stdout
    assert re.search(r"97\.1% +large ", asked.stdout), asked.stdout
    sidecar = json.loads(service.read("models/model.json"))
    assert sidecar["golden_instance"] == {"weight_kg": 3.0, "size": 1.0}
    # What `make image` looks for, and `make push` sends.
    status = service.run("dvc", "status").stdout
    assert "up to date" in status
    assert "models/model.onnx" in service.read("dvc.lock")
    tests = ("tests/app/test_predict.py", "tests/training/test_dvc.py")
    service.run("pytest", "-q", *tests)


def test_a_model_of_lightgbm_answers_as_it_did(
    service: Service, tmp_path: Path
) -> None:
    python = make_environment("lightgbm", *LIGHTGBM)
    run(str(python), str(WRITE), str(tmp_path), cwd=tmp_path)
    made = json.loads((tmp_path / "answers.json").read_text(encoding="utf-8"))

    options = (f"MODEL={tmp_path / 'given.onnx'}", "SAMPLE=../rows.csv", "YES=1")
    said = service.make("adopt", *options).stdout
    ask = ("python", "-m", "serving.testing", "python", "-c", ASK)
    lines = service.run(*ask, str(tmp_path / "answers.json")).stdout.splitlines()

    assert "as the file names them: class_0, class_1, class_2" in said
    for answer, known in zip(json.loads(lines[-1]), made["answers"], strict=True):
        assert answer == pytest.approx(known, abs=1e-5)


def test_a_file_that_cannot_be_served_leaves_everything_as_it_was(
    service: Service,
) -> None:
    model = make_model(service, "1")
    before = run("git", "status", "--porcelain", cwd=service.path).stdout

    done = service.make("adopt", f"MODEL={model}", "LABELS=a,b", "YES=1", check=False)

    assert "always 1 row(s)" in done.stdout
    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    assert run("git", "status", "--porcelain", cwd=service.path).stdout == before
