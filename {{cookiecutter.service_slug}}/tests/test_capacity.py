"""What a pod may use is what was measured: deploy/ follows from reports/capacity.md.

After a change of the model or the code, `make bench` measures again.
"""

import re
from pathlib import Path

import pytest
import yaml
from omegaconf import DictConfig

from bench import deploy
from bench.bodies import Bodies
from bench.capacity import Overload
from bench.deploy import RULES, deployed, differences, follows, reported
from bench.load import OK, REFUSED, UNSENT, Answer, closed_loop, open_loop, request
from bench.serving import ROOT, BenchError
from bench.soak import MIB, Sample, Trend
from tests.conftest import Process, Start

MAX_BODY = 1_048_576
BASIS = {"limits.cpu": 0.98, "averageValue": 0.63, "limits.memory": 150.0}


def test_deploy_has_the_values_of_the_report() -> None:
    _, values = reported()

    assert values.keys() == RULES.keys(), "reports/capacity.md: run make bench"
    assert deployed() == values, differences()


def test_the_values_of_the_report_follow_from_its_figures() -> None:
    figures, values = reported()

    assert follows(figures) == values, "reports/capacity.md: run make bench"


def test_whoever_changes_a_value_in_deploy_is_led_to_the_report() -> None:
    for path in {rule.place for rule in RULES.values()}:
        assert "reports/capacity.md" in path.read_text(encoding="utf-8")


def test_compose_gives_as_much_as_a_pod_has() -> None:
    (service,) = yaml.safe_load((ROOT / "compose.yaml").read_text())[
        "services"
    ].values()

    there = deployed()
    memory = f"{service['mem_limit']}".removesuffix("m") + "Mi"
    told = "compose.yaml and deploy/base/deployment.yaml differ"
    assert memory == there["limits.memory"], f"{told}: mem_limit and limits.memory"
    assert str(service["cpus"]) == there["limits.cpu"], f"{told}: cpus and limits.cpu"


def test_the_memory_alert_is_silent_at_the_peak() -> None:
    alerts = (ROOT / "monitoring" / "alerts.yaml").read_text(encoding="utf-8")
    match = re.search(r"process_memory_limit_bytes > ([\d.]+)", alerts)
    figures, values = reported()
    limit = float(values["limits.memory"].removesuffix("Mi"))

    assert match
    assert figures["limits.memory"] / limit < float(match[1])


@pytest.mark.parametrize(
    ("figures", "values"),
    [
        ({}, {"limits.cpu": "1", "averageValue": "600m", "limits.memory": "256Mi"}),
        ({"averageValue": 0.95}, {"averageValue": "700m"}),
        ({"averageValue": 0.01}, {"averageValue": "50m"}),
        ({"limits.cpu": 1.15}, {"limits.cpu": "1"}),  # the clock of the kernel
        ({"limits.cpu": 1.6, "averageValue": 1.5}, {"averageValue": "1400m"}),
        ({"limits.memory": 128.1}, {"limits.memory": "256Mi"}),
        ({"limits.memory": 128.0}, {"limits.memory": "192Mi"}),
    ],
)
def test_the_rules(figures: dict[str, float], values: dict[str, str]) -> None:
    assert values.items() <= follows(BASIS | figures).items()


def test_a_value_that_differs_is_named_with_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deploy, "deployed", lambda: reported()[1] | {"limits.cpu": "9"})

    line, compose = differences()

    assert line.startswith("deploy/base/deployment.yaml: limits.cpu is 9;")
    assert compose.startswith("compose.yaml")


def test_every_answer_of_a_closed_loop_is_counted(start: Start) -> None:
    server = start(MAX_CONCURRENCY="4").ready()
    port = int(server.url.rpartition(":")[2])
    good = request(b'{"instances": [{"text": "stop"}]}')

    few = closed_loop(port, [good, request(b"{}")], 2, 0.3)
    many = closed_loop(port, [good], 64, 0.3)

    counted = few.statuses()
    assert set(counted) == {OK, 422}
    assert abs(counted[OK] - counted[422]) <= 2
    assert set(many.statuses()) <= {OK, REFUSED}
    assert few.rate() == pytest.approx(counted[OK] / few.seconds)


def test_an_open_loop_holds_its_rate_and_counts_from_when_it_was_due(
    server: Process,
) -> None:
    port = int(server.url.rpartition(":")[2])
    good = request(b'{"instances": [{"text": "stop"}]}')

    result = open_loop(port, [good], 16, [(50.0, 0.5), (200.0, 1.0)])
    late = open_loop(port, [good], 1, [(20_000.0, 0.1)])
    never = open_loop(port, [good], 1, [(20_000.0, 0.1)], most_waiting=0)

    first = sum(answer.due < 0.5 for answer in result.answers)
    assert set(result.statuses()) == {OK}
    assert 10 <= first <= 45
    assert 140 <= len(result.answers) - first <= 260
    # One connection cannot keep up: most have waited for many others.
    assert set(late.statuses()) == {OK}
    assert late.quantile(0.5) > 20 * late.seconds / len(late.answers)
    assert set(never.statuses()) == {OK, UNSENT}


def test_an_overload_tells_answered_refused_and_recovered() -> None:
    during = [Answer(n / 100, OK if n % 4 == 0 else REFUSED, 0.01) for n in range(100)]
    after = [Answer(1 + n / 100, OK, 0.9 if n < 30 else 0.01) for n in range(100)]

    seen = Overload.of(during + after, seconds=1.0, peak=25.0, usual=0.01)
    never = Overload.of(during + after[:30], seconds=1.0, peak=25.0, usual=0.01)

    assert (seen.offered, seen.answered, seen.refused) == (100, 25, 75)
    assert seen.recovery == pytest.approx(0.3)
    assert never.recovery is None


def test_a_leak_is_told_from_noise() -> None:
    def samples(per_hour: float) -> list[Sample]:
        return [
            Sample(5.0 * n, 0.01, int((100 + per_hour * n / 720 + n % 3) * MIB), 14)
            for n in range(120)
        ]

    assert not Trend.of(samples(0)).grows
    leak = Trend.of(samples(120))
    assert leak.grows
    assert leak.rise / MIB == pytest.approx(120 * 119 / 720, rel=0.05)


def test_the_largest_requests_are_just_within_the_limits(
    server: Process, trained: DictConfig
) -> None:
    port = int(server.url.rpartition(":")[2])
    bodies = Bodies(Path(trained.paths.model), Path(trained.paths.test))
    largest = bodies.largest(MAX_BODY)

    assert 0.9 * MAX_BODY < len(largest) <= MAX_BODY
    assert set(closed_loop(port, [request(largest)], 1, 0.1).statuses()) == {OK}
    for body in (bodies.golden(), bodies.long(100), *bodies.batches(3, 2)):
        assert set(closed_loop(port, [request(body)], 1, 0.01).statuses()) == {OK}


def test_what_is_missing_is_said_with_the_way_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="make train"):
        Bodies(tmp_path)
