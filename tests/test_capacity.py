"""`make bench` of a generated service measures what a pod may use, here in short."""

import json
import re
from pathlib import Path

import pytest

from benchmarks import soak
from benchmarks.generated import served
from tests.conftest import Service, copy

pytestmark = pytest.mark.slow

DIFFERENCE = re.compile(r"^(deploy/\S+): (\S+) is (\S+); (\S+) follows from", re.M)

# Every call of the model leaves something behind.
LEAK = """

_kept: list[bytes] = []
_predict = Model.predict


def _leak(self: Model[InstanceT], instances: Sequence[InstanceT]) -> Row:
    _kept.append(bytes(range(250)) * 80)
    return _predict(self, instances)


Model.predict = _leak  # type: ignore[method-assign]
"""


def test_bench_writes_its_result_and_names_what_differs(
    trained: Service, tmp_path: Path
) -> None:
    service = copy(trained, tmp_path)

    output = service.make("bench", "SECONDS=0.2").stdout

    result = json.loads(service.read("reports/capacity.json"))
    served_model = json.loads(service.read("models/model.json"))
    assert result["model_sha256"] == served_model["sha256"]
    assert list(result["connections"]) == ["1", "16", "64", "256"]
    assert list(result["steps"]) == ["0.5", "0.6", "0.7", "0.8", "0.9"]
    assert result["memory_at_most"] > result["memory_at_start"] > 50 * 2**20
    document = service.read("docs/capacity.md")
    assert document in output
    assert "Measurements of less than 5 s are a trial" in output
    files = ("docs/capacity.md", "reports/capacity.json")
    service.run("pre-commit", "run", "--files", *files)
    for name in files:
        assert service.path.name not in service.read(name), "every service has it"

    # The machine of this test is not the one that deploy/ was measured on.
    differ = DIFFERENCE.findall(output)
    own = ("pytest", "tests/bench/test_capacity.py", "-k", "deploy or document")
    assert service.run(*own, check=False).returncode == (1 if differ else 0)

    for name, value, there, follows in differ:
        path = service.path / name
        key = "averageValue" if value == "averageValue" else value.split(".")[1]
        text = path.read_text(encoding="utf-8")
        text = text.replace(f" {key}: {there}\n", f" {key}: {follows}\n")
        path.write_text(text, encoding="utf-8")
    service.run(*own)


def test_another_model_is_told_and_fails_nothing(
    trained: Service, tmp_path: Path
) -> None:
    service = copy(trained, tmp_path)
    path = service.path / "models" / "model.json"
    sidecar = json.loads(path.read_text(encoding="utf-8"))
    sidecar |= {"version": "0123456789ab", "sha256": "0123456789ab" + 52 * "0"}
    path.write_text(json.dumps(sidecar), encoding="utf-8")

    own = service.run("pytest", "tests/bench/test_capacity.py", "-k", "deploy or model")

    assert "describes another model: run make bench" in own.stdout
    assert "0123456789ab is served" in own.stdout


def test_the_model_of_the_default_service_is_the_one_that_was_measured(
    trained: Service,
) -> None:
    own = trained.run("pytest", "tests/bench/test_capacity.py", "-k", "is_served")

    assert "1 passed" in own.stdout, own.stdout


def test_a_mistake_is_said_before_anything_is_measured(
    default: Service, trained: Service, tmp_path: Path
) -> None:
    broken = copy(trained, tmp_path)
    settings = broken.path / "deploy" / "base" / "settings.env"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(text.replace("LOG_LEVEL=info", "LOG_LEVEL=loud"))

    none = default.run("python", "-m", "bench", check=False)
    long = default.run("python", "-m", "bench", "long", check=False)
    bad = broken.run("python", "-m", "bench", check=False)

    assert none.returncode == 1 and "make train" in none.stdout
    assert long.returncode == 2 and "'long'" in long.stdout
    assert bad.returncode == 1 and "LOG_LEVEL='loud'" in bad.stdout


def test_a_soak_passes_and_one_that_leaks_does_not(
    trained: Service, tmp_path: Path
) -> None:
    service = copy(trained, tmp_path)

    with served(service) as server:
        sound = soak.soak(server, minutes=0.2)
    assert sound["faults"] == []

    with (service.path / "serving" / "model.py").open("a", encoding="utf-8") as model:
        model.write(LEAK)
    with served(service) as server:
        leaking = soak.soak(server, minutes=0.2)
    assert any("Memory rose by" in fault for fault in leaking["faults"])
