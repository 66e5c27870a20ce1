"""A pod may use what was measured: deploy/ follows from reports/capacity.json.

After a change of the model or of what a request costs, `make bench` measures again.
"""

import json
import re
from datetime import date
from pathlib import Path

import pytest
import yaml
from fastapi.testclient import TestClient

from app.contract import MAX_INSTANCES
from bench import ROOT, BenchError, capacity, report, rules
from bench.bodies import Bodies
from bench.capacity import Capacity, Level

RULES = sorted(rules.RULES)


def make(cores: float = 0.98, step: float = 0.63, mib: float = 150.0) -> Capacity:
    """A result with these cores at the peak and at its one step, and this memory."""
    level = Level(rate=100, p50=0.01, p99=0.015, rejected=0, cores=cores)
    return Capacity(
        date=date(2026, 1, 2),
        model_version="0123456789ab",
        model_sha256="0123456789abcdef",
        cpus=2,
        seconds=5,
        connections={1: level},
        steps={0.5: level.model_copy(update={"cores": step})},
        seconds_to_ready=1,
        memory_at_start=100 * rules.MIB,
        memory_at_most=int(mib * rules.MIB),
    )


def test_deploy_has_the_values_that_follow_from_the_result() -> None:
    differ = rules.differences(capacity.read())

    assert not differ, "\n".join(differ)


def test_the_document_is_rendered_from_the_result() -> None:
    text = report.DOCUMENT.read_text(encoding="utf-8").replace(report.OUTDATED, "")

    assert text == report.render(capacity.read()), "docs/capacity.md: run make bench"


def test_the_result_describes_the_model_that_is_served() -> None:
    """Another model is no mistake, but somebody should measure it."""
    if told := capacity.explain_other_model(capacity.read()):
        pytest.skip(told)


def test_another_model_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_DIR", str(tmp_path))
    measured = make()
    assert capacity.explain_other_model(measured) == "", "there is no model"

    sidecar = {"version": measured.model_version, "sha256": measured.model_sha256}
    (tmp_path / "model.json").write_text(json.dumps(sidecar))
    assert capacity.explain_other_model(measured) == ""

    sidecar |= {"version": "ba9876543210", "sha256": "fedcba"}
    (tmp_path / "model.json").write_text(json.dumps(sidecar))
    told = capacity.explain_other_model(measured)
    assert "capacity.json describes another model: run make bench" in told
    assert "0123456789ab" in told and "ba9876543210" in told


def test_a_result_that_cannot_be_read_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "RESULT", tmp_path / "capacity.json")
    with pytest.raises(BenchError, match="run make bench"):
        capacity.read()

    (tmp_path / "capacity.json").write_text('{"peak": 1}')
    with pytest.raises(BenchError, match="run make bench"):
        capacity.read()


def test_the_values_in_deploy_name_the_result_they_follow_from() -> None:
    for name in RULES:
        text = (ROOT / rules.place(name)).read_text(encoding="utf-8")
        assert "reports/capacity.json" in text, rules.place(name)


def test_compose_gives_as_much_as_a_pod_has() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    (service,) = compose["services"].values()

    deployed = rules.deployed()
    memory = f"{service['mem_limit']}".removesuffix("m") + "Mi"
    told = "compose.yaml and deploy/base/deployment.yaml differ"
    assert memory == deployed["limits.memory"], f"{told}: mem_limit and limits.memory"
    assert str(service["cpus"]) == deployed["limits.cpu"], f"{told}: cpus, limits.cpu"


def test_the_memory_alert_is_silent_at_the_peak() -> None:
    alerts = (ROOT / "monitoring" / "alerts.yaml").read_text(encoding="utf-8")
    match = re.search(r"process_memory_limit_bytes > ([\d.]+)", alerts)
    measured = capacity.read()
    limit = float(rules.memory(measured).removesuffix("Mi")) * rules.MIB

    assert match
    assert measured.memory_at_most / limit < float(match[1])


@pytest.mark.parametrize(
    ("measured", "values"),
    [
        (make(), {"limits.cpu": "1", "averageValue": "600m", "limits.memory": "256Mi"}),
        (make(step=0.95), {"averageValue": "700m", "requests.cpu": "700m"}),
        (make(step=0.01), {"averageValue": "50m", "requests.cpu": "50m"}),
        (make(cores=1.15), {"limits.cpu": "1"}),  # the clock of the kernel
        (make(cores=1.6, step=1.5), {"limits.cpu": "2", "averageValue": "1400m"}),
        (make(mib=128.1), {"limits.memory": "256Mi", "requests.memory": "256Mi"}),
        (make(mib=128.0), {"limits.memory": "192Mi"}),
    ],
)
def test_values_follow_from_figures(measured: Capacity, values: dict[str, str]) -> None:
    assert values.items() <= rules.values(measured).items()


def test_a_step_with_a_long_p99_or_rejections_does_not_count() -> None:
    well = Level(rate=1, p50=0.01, p99=0.015, rejected=0, cores=0.4)
    slow = well.model_copy(update={"p99": 0.5, "cores": 0.6})
    rejecting = well.model_copy(update={"rejected": 0.1, "cores": 0.6})
    steps = {0.5: well, 0.6: slow, 0.7: rejecting}

    measured = make().model_copy(update={"steps": steps})
    none = make().model_copy(update={"steps": {0.6: slow}})

    assert rules.values(measured)["averageValue"] == "400m"
    assert "No step had a p99 within 20 ms" in report.render(none)


@pytest.mark.parametrize(
    ("change", "doubt"),
    [
        ({"connections": make(cores=0.5).connections}, "The machine was busy"),
        ({"cpus": 1}, "shared one CPU"),
    ],
)
def test_a_doubtful_result_says_so(change: dict[str, object], doubt: str) -> None:
    assert "**Doubtful**" not in report.render(make())
    assert doubt in report.render(make().model_copy(update=change))


def test_a_value_that_differs_is_named_with_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = rules.values(make())
    monkeypatch.setattr(rules, "deployed", lambda: values | {"limits.cpu": "9"})

    line, compose = rules.differences(make())

    assert line.startswith("deploy/base/deployment.yaml: limits.cpu is 9; 1 follows")
    assert compose.startswith("compose.yaml")


def test_bodies_are_what_the_contract_takes(client: TestClient) -> None:
    """`make bench` makes them from examples and limits in the OpenAPI document."""
    bodies = Bodies(client.get("/openapi.json").json())
    largest = bodies.largest(100_000)

    assert len(largest) <= 100_000
    is_full = len(json.loads(largest)["instances"]) == MAX_INSTANCES
    assert is_full or len(largest) > 50_000
    for body in (*bodies.of(1), *bodies.of(3), largest):
        headers = {"Content-Type": "application/json"}
        answer = client.post("/v1/predict", content=body, headers=headers)
        assert answer.status_code == 200, answer.text
