"""A service of another contract: four edits, and everything follows.

The contract, the samples, the data and the configuration are edited, as CONTRIBUTING.md
of a service says. Then it trains, serves, and passes its own tests.
"""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.conftest import Service, copy
from tests.tables import PROGRAM, TABLES, adapt, program

# Of the flights that are measured in benchmarks/; the other tables are small.
EVERY = {"flights": 25}


@pytest.mark.slow(seconds=100)
def test_public_tables_train_as_by_hand_and_are_served(
    default: Service, tmp_path: Path
) -> None:
    """One after the other, in one directory: what a table leaves, the next replaces."""
    for name in TABLES.keys() - {"power"}:
        service = adapt(copy(default, tmp_path / name), name, EVERY.get(name, 1))
        trial = "outputs/trial"

        trained = service.run("python", "-m", "training").stdout
        by_hand = float(program(service, "score", trial))
        models = str(service.path / trial / "models")
        serving = ("python", "-m", "serving.testing", "python")
        asked = service.run(*serving, "-m", "demo.ask", MODEL_DIR=models)

        assert "ONNX equals scikit-learn" in trained, name
        metrics = json.loads(service.read(f"{trial}/reports/metrics.json"))
        score = metrics.get("macro_f1", metrics.get("r2"))
        assert score == pytest.approx(by_hand, abs=0.01), name
        said, *answers = asked.stdout.splitlines()[1:]
        assert re.match(r"Model \w{12} at http", said), asked.stdout
        assert len(answers) == 2, asked.stdout


@pytest.mark.slow(seconds=30)
def test_a_model_that_is_asked_about_official_test_rows_is_as_good_as_by_hand(
    default: Service, tmp_path: Path
) -> None:
    service = adapt(copy(default, tmp_path), "power")
    official = "data/source/test.parquet"
    sweep = f"hydra.sweep.dir={tmp_path}"

    service.run(
        "python", "-m", "training", "-m", f"data.test_path={official},null", sweep
    )

    by_hand = float(program(service, "fit", official))
    # With a test file, its rows are never learned from. Without, all others are.
    for job in ("0", "1"):
        serving = ("python", "-m", "serving.testing", "python", str(PROGRAM))
        model = str(tmp_path / job / "models")
        asked = service.run(*serving, "ask", official, MODEL_DIR=model)
        assert float(asked.stdout.split()[-1]) == pytest.approx(by_hand, abs=0.002)


@pytest.mark.slow(seconds=120)
def test_a_service_that_predicts_a_number_passes_its_own_tests(
    default: Service, tmp_path: Path
) -> None:
    service = adapt(copy(default, tmp_path), "diabetes")

    # The tests of the engine know no contract: those of the default service suffice.
    own = ("tests/app", "tests/training", "tests/bench", "tests/monitoring")
    output = service.run("pytest", "-q", *own).stdout

    assert re.search(r"\d+ passed", output)


@pytest.mark.slow(seconds=60)
def test_generated_contracts_train_and_serve(default: Service, tmp_path: Path) -> None:
    service = copy(default, tmp_path)
    shutil.copy(
        PROGRAM.parent / "generated.py", service.path / "tests" / "test_generated.py"
    )

    service.run("mypy")
    service.run("pytest", "-q", "tests/test_generated.py")
