"""The monitoring of a generated service, with real Prometheus programs."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests.conftest import Bake, Service, copy, run
from tests.test_service import edit, path_without

pytestmark = pytest.mark.slow

needs_prometheus = pytest.mark.skipif(
    not (shutil.which("promtool") and shutil.which("prometheus")),
    reason="Prometheus is not installed: apt-get install prometheus",
)

# Answers with all that YAML, Markdown, Prometheus and Python could stumble over.
AWKWARD = {
    "service_name": 'Ω "quoted" \\back| *star* 🎉',
    "service_slug": "null",
    "team": "Ünï \"quoted\" 'single' \\back: |pipe| & <b> # 🎉",
    "product_manager": "O'Brien, \\|_x_",
    "issue_tracker": "jira",
    "ci": "gitlab",
}
THRESHOLDS = {
    "process_memory_limit_bytes > 0.9": "process_memory_limit_bytes > 0.95",
    "disk_size_bytes < 0.1": "disk_size_bytes < 0.08",
    "expr: vector(0.995)": "expr: vector(0.99)",
    "[1h]) >= 3": "[1h]) >= 4",
}


@needs_prometheus
def test_the_alerts_fire_where_they_must_and_only_there(default: Service) -> None:
    output = default.make("test-alerts").stdout

    assert "SUCCESS: 35 rules found" in output
    assert output.count("SUCCESS") == 2


@needs_prometheus
@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_a_changed_threshold_turns_the_unit_tests_red(
    default: Service, tmp_path: Path, threshold: str
) -> None:
    service = copy(default, tmp_path)

    edit(service, "monitoring/alerts.yaml", threshold, THRESHOLDS[threshold])

    done = service.make("test-alerts", check=False)
    assert done.returncode != 0
    assert "FAILED" in done.stdout


@needs_prometheus
def test_a_broken_expression_turns_the_check_red(
    default: Service, tmp_path: Path
) -> None:
    service = copy(default, tmp_path)

    edit(service, "monitoring/alerts.yaml", "absent(up", "absent((up")

    assert service.make("test-alerts", check=False).returncode != 0


def test_without_promtool_it_says_how_to_get_it(
    default: Service, tmp_path: Path
) -> None:
    path = path_without(tmp_path / "bin", "promtool")

    done = default.make("test-alerts", check=False, PATH=path)

    assert done.returncode != 0
    assert "promtool is missing" in done.stdout
    assert "apt-get install prometheus" in done.stdout


@needs_prometheus
def test_any_answers_give_rules_and_documents_that_are_right(bake: Bake) -> None:
    service = bake(**AWKWARD).install()

    service.make("test-alerts")
    before = {name: service.read(name) for name in service.files()}
    service.make("monitoring")
    service.run("pytest", "tests/test_monitoring.py")

    assert {name: service.read(name) for name in service.files()} == before
    rules = yaml.safe_load(service.read("monitoring/alerts.yaml"))
    owners = {
        rule["labels"]["owner"]
        for group in rules["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    assert owners == {AWKWARD["team"]}
    dashboard = json.loads(service.read("monitoring/dashboard.json"))
    assert dashboard["title"] == AWKWARD["service_name"]


@needs_prometheus
def test_the_evidence_shows_every_alert_fire(default: Service, tmp_path: Path) -> None:
    service = copy(default, tmp_path)

    output = service.make("evidence").stdout

    assert "See docs/evidence/README.md" in output
    report = service.read("docs/evidence/README.md")
    assert "15 of 15 alerts were seen to fire" in report
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", report)
    assert len(pictures) == 18
    for picture in pictures:
        content = (service.path / "docs" / "evidence" / picture).read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) > 5_000
    revision = run("git", "rev-parse", "HEAD", cwd=service.path).stdout.strip()
    assert revision in report
