"""The monitoring of a generated service, with real Prometheus programs."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests import alerts
from tests.conftest import Bake, Service, copy
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
RUNBOOK_PARTS = [
    *("Meaning", "Effect on users", "Confirm", "First five minutes"),
    *("Roll back", "Call"),
]
# A threshold, what it is changed to, and the unit tests that are about it.
THRESHOLDS = [
    (
        "process_memory_limit_bytes > 0.9",
        "process_memory_limit_bytes > 0.95",
        "of its memory",
    ),
    ("disk_size_bytes < 0.1", "disk_size_bytes < 0.08", "of the disk"),
    ("expr: vector(0.995)", "expr: vector(0.99)", "of 1000 requests"),
    ("[1h]) >= 3", "[1h]) >= 4", "restarts"),
]


def keep_unit_tests(service: Service, about: str) -> None:
    """Keep the unit tests of the alerts with these words in the name: all take 40 s."""
    path = service.path / "monitoring" / "alerts_test.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["tests"] = [test for test in content["tests"] if about in test["name"]]
    assert len(content["tests"]) >= 2
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


@needs_prometheus
def test_the_alerts_fire_where_they_must_and_only_there(default: Service) -> None:
    output = default.make("test-alerts").stdout

    assert "SUCCESS: 35 rules found" in output
    assert output.count("SUCCESS") == 2


@needs_prometheus
@pytest.mark.parametrize(("threshold", "other", "about"), THRESHOLDS)
def test_a_changed_threshold_turns_the_unit_tests_red(
    default: Service, tmp_path: Path, threshold: str, other: str, about: str
) -> None:
    service = copy(default, tmp_path)
    keep_unit_tests(service, about)
    service.make("test-alerts")

    edit(service, "monitoring/alerts.yaml", threshold, other)

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
    # A panel of the team asks for a label of its data, which the tests do not predict.
    asked = "predictions_total{"
    edit(service, "monitoring/dashboard.json", asked, asked + r"label=\"mine\", ")

    before = {name: service.read(name) for name in service.texts()}
    service.make("monitoring")
    service.run("pytest", "tests/monitoring/test_monitoring.py")

    assert {name: service.read(name) for name in service.texts()} == before
    keep_unit_tests(service, "of 1000 requests")  # the default service runs all
    service.make("test-alerts")
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
@pytest.mark.skipif(
    not (shutil.which("alertmanager") or shutil.which("prometheus-alertmanager")),
    reason="Alertmanager is not installed: apt-get install prometheus-alertmanager",
)
def test_a_service_that_breaks_sets_off_every_alert(
    trained: Service, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    rules = [r for g in alerts.load_rules(trained)["groups"] for r in g["rules"]]
    assert {rule["alert"] for rule in rules if "alert" in rule} == set(alerts.JOBS)

    with alerts.play(trained, tmp_path) as seen:
        for alert, job in alerts.JOBS.items():
            with subtests.test("arrives at the webhook", alert=alert):
                if alert in alerts.IN_SMALL_CONTAINER and not alerts.can_mount():
                    pytest.skip("this machine gives a process no mounts of its own")
                assert alert in seen.fired(job), seen.faults
        with subtests.test("every message has a text"):
            texts = {message.description for message in seen.messages}
            assert "" not in texts
            assert not re.search(r"\{\{|<error|<no value>", " ".join(texts))
        with subtests.test("nothing fires while all is well"):
            # On a machine that is busy, predictions may truly be slow.
            slow = {"LatencyBurnsFast", "LatencyBurnsSlowly"}
            assert seen.without_reason <= (slow if seen.slow > 0.01 else set())
        with subtests.test("an alert that is broken does not arrive"):
            assert "InstanceNotReady" in seen.fired(alerts.BROKEN)
            assert "NotReady" not in seen.fired(alerts.BROKEN)
        for alert, query in alerts.runbook_queries(trained).items():
            with subtests.test("the runbook's query has values", alert=alert):
                query = alerts.of_job(query, trained, alerts.JOBS[alert])
                assert seen.points(alerts.compressed(query))
        for panel, query in alerts.dashboard_queries(trained).items():
            with subtests.test("the panel's query has values", panel=panel):
                query = query.replace(f'job="{trained.path.name}"', 'job=~".+"')
                assert seen.points(alerts.compressed(query))


def test_time_is_compressed_in_every_duration_and_nowhere_else() -> None:
    query = 'increase(a_ratio5m{b="[c]"}[1h]) > 5 * (x offset 30m)'

    assert alerts.compressed(query) == (
        'increase(a_ratio5m{b="[c]"}[30000ms]) > 5 * (x offset 15000ms)'
    )


def test_every_entry_of_the_runbook_has_the_same_parts(default: Service) -> None:
    runbook = default.read("docs/runbook.md")
    entries = re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", runbook, re.M | re.S)

    assert len(entries) == 15
    for name, entry in entries:
        assert re.findall(r"^\*\*(.*?)\.\*\*", entry, re.M) == RUNBOOK_PARTS, name


def test_the_dashboard_has_a_row_for_requests_model_and_resources(
    default: Service,
) -> None:
    panels = json.loads(default.read("monitoring/dashboard.json"))["panels"]
    rows = [panel["title"] for panel in panels if panel["type"] == "row"]
    ids = [panel["id"] for panel in panels]

    assert [title.partition(":")[0] for title in rows] == [
        *("Requests", "Model", "Resources")
    ]
    assert len(ids) == len(set(ids))
    assert len(panels) - len(rows) == 17
