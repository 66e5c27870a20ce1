"""What the service can carry, measured in a generated service, in short."""

import re
from pathlib import Path

import pytest

from tests.conftest import Service, copy

pytestmark = pytest.mark.slow

SECTIONS = [
    "Connections",
    "Instances a request",
    "Length of a text",
    "Overload",
    "Load",
    "Start, memory, file descriptors",
    "What follows for deploy/",
]
DIFFERENCE = re.compile(r"^(deploy/\S+): (\S+) is (\S+); .* follows (\S+)$", re.M)

# Every call of the model leaves something behind.
LEAK = """

_kept: list[bytes] = []
_predict = Model.predict


def _leak(self: Model, instances: Sequence[Instance]) -> Probabilities:
    _kept.append(bytes(range(250)) * 20)
    return _predict(self, instances)


Model.predict = _leak  # type: ignore[method-assign]
"""


def test_what_is_measured_is_what_a_pod_may_use(
    trained: Service, tmp_path: Path
) -> None:
    service = copy(trained, tmp_path)

    output = service.make("bench", "SECONDS=0.2").stdout

    report = service.read("reports/capacity.md")
    assert re.findall(r"^## (.*)", report, re.M) == SECTIONS
    assert report in output
    assert service.path.name not in report, "it is shipped with every service"
    assert "</svg>" in service.read("reports/capacity.svg")
    service.run("pre-commit", "run", "--files", "reports/capacity.svg")

    # The machine of this test is not the one that deploy/ was measured on.
    differ = DIFFERENCE.findall(output)
    own = ("pytest", "tests/test_capacity.py", "-k", "deploy or follow")
    assert service.run(*own, check=False).returncode == (1 if differ else 0)

    for name, value, there, follows in differ:
        path = service.path / name
        key = "averageValue" if value == "averageValue" else value.split(".")[1]
        text = path.read_text(encoding="utf-8")
        text = text.replace(f" {key}: {there}\n", f" {key}: {follows}\n")
        path.write_text(text, encoding="utf-8")
    service.run(*own)


def test_a_mistake_is_said_before_anything_is_measured(default: Service) -> None:
    none = default.run("python", "-m", "bench", check=False)
    long = default.run("python", "-m", "bench", "long", check=False)
    bad = default.run("python", "-m", "bench.soak", check=False, PORT="high")

    assert none.returncode == 1 and "make train" in none.stdout
    assert long.returncode == 2 and "'long'" in long.stdout
    assert bad.returncode == 1 and "PORT='high'" in bad.stdout


def test_a_soak_passes_and_one_that_leaks_does_not(
    trained: Service, tmp_path: Path
) -> None:
    service = copy(trained, tmp_path)

    output = service.make("soak", "MINUTES=0.2").stdout
    assert re.search(r"Requests: [\d,]+ of status 200$", output, re.M)
    assert service.read("outputs/soak.md") in output

    with (service.path / "app" / "model.py").open("a", encoding="utf-8") as model:
        model.write(LEAK)
    done = service.make("soak", "MINUTES=0.2", check=False)
    assert done.returncode != 0
    assert "Memory rose by" in done.stdout
