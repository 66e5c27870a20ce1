"""Hundreds of thousands of flights: contract, training, gate, parity, serving, HTTP."""

import json
import re
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.generated import python
from benchmarks.results import versions
from tests.conftest import Service, bake_into
from tests.tables import adapt, program

TRIAL = "outputs/trial"


def measure(every: int = 1) -> dict[str, object]:
    """Train on one of so many rows, fit by hand on the same ones, serve and ask."""
    with TemporaryDirectory() as directory:
        bake_into(Path(directory))
        service = Service(Path(directory) / "intent-service").install()
        adapt(service, "flights", every)
        begin = time.perf_counter()
        said = service.run("python", "-m", "training").stdout
        seconds = time.perf_counter() - begin
        by_hand = float(program(service, "score", TRIAL))
        models = str(service.path / TRIAL / "models")
        ask = ("python", "-m", "serving.testing", "python", "-m", "demo.ask")
        asked = service.run(*ask, MODEL_DIR=models).stdout
        metrics = json.loads(service.read(f"{TRIAL}/reports/metrics.json"))
        named = versions(python(service), "pandas", "scikit-learn", "onnxruntime")
    (rows,) = re.findall(r"^(\d+) rows, ", said, re.MULTILINE)
    (difference,) = re.findall(r"largest difference (\S+)", said)
    return {
        "versions": named,
        "rows": int(rows),
        "seconds": round(seconds, 1),
        "score": metrics["macro_f1"],
        "by_hand": round(by_hand, 5),
        "difference": float(difference),
        "answers": re.findall(r"[\d.]+%  [a-z ]+(?=  )", asked),
    }
