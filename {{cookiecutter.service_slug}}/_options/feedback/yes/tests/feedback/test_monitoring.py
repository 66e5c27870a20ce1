"""The alerts of feedback: each is tested, described and fed by a metric that exists."""

import json
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient

from serving.testing import ROOT, wait_until
from tests.conftest import Serve

PLACE = ROOT / "monitoring" / "feedback"


def read(name: str) -> Any:
    """The content of a YAML file."""
    return yaml.safe_load((PLACE / name).read_text(encoding="utf-8"))


def alerts() -> list[dict[str, Any]]:
    """The alerts."""
    return [rule for group in read("alerts.yaml")["groups"] for rule in group["rules"]]


def test_every_alert_has_cases_in_which_it_fires_and_does_not() -> None:
    text = (PLACE / "alerts_test.yaml").read_text(encoding="utf-8")

    for alert in alerts():
        expected = re.findall(
            rf'alertname="{alert["alert"]}".*\n.*\n +exp_samples: (\[.*\])', text
        )
        assert {"[]", "[{value: 1}]"} == set(expected), alert["alert"]


def test_the_unit_tests_of_the_alerts_pass() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed: it comes with Prometheus")
    done = subprocess.run(
        ["promtool", "test", "rules", "alerts_test.yaml"],
        cwd=PLACE,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_an_entry_in_the_documentation() -> None:
    page = (ROOT / "docs" / "database.md").read_text(encoding="utf-8")

    for alert in alerts():
        assert f"### {alert['alert']}\n" in page
        assert alert["annotations"]["runbook_url"].endswith(
            f"docs/database.md#{alert['alert'].lower()}"
        )


def test_the_rule_for_kubernetes_has_the_same_alerts() -> None:
    assert read("prometheus-rule.yaml")["spec"] == read("alerts.yaml")


def test_alerts_and_panels_ask_for_metrics_that_exist(serve: Serve) -> None:
    client: TestClient = serve()
    wait_until(lambda: "feedback_database_up" in client.get("/metrics").text)
    metrics = client.get("/metrics").text
    panels = json.loads((PLACE / "dashboard.json").read_text("utf-8"))["panels"]
    queries = [alert["expr"] for alert in alerts()]
    queries += [target["expr"] for panel in panels for target in panel["targets"]]

    assert len(panels) == 4
    for query in queries:
        for name in re.findall(r"(\w+){job=", query):
            assert f"# TYPE {name} " in metrics, name
