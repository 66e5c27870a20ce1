"""The alerts, and what tells of them: runbook, dashboard, documents.

`make test-alerts` shows that the alerts fire; `make evidence`, what Prometheus has.
"""

import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from monitoring import dashboard
from monitoring.__main__ import (
    ALERTS,
    MANIFEST,
    ROOT,
    SLUG,
    Rule,
    expected_files,
    load_rules,
)
from tests.conftest import BODY

RUNBOOK = ROOT / "docs" / "runbook.md"
RULES = load_rules()
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
OF_PROMETHEUS = {"up", "ALERTS"}
# Series that your rules and panels take from elsewhere, such as kube_pod_info.
OF_OTHERS: set[str] = set()
# What Prometheus adds to the labels that the service exposes.
OF_TARGETS = {"job", "instance", "pod", "namespace", "container"}
FIRING = re.compile(r'count\(ALERTS{alertname="(\w+)", alertstate="firing"}\)')


def read(path: str) -> Any:
    """A YAML file of the service."""
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def alerts() -> dict[str, Rule]:
    """The alerts by their names."""
    return {rule["alert"]: rule for rule in RULES if "alert" in rule}


def queries() -> Iterator[tuple[str, str]]:
    """Every PromQL expression, with where it stands."""
    for rule in RULES:
        yield rule.get("alert") or rule["record"], rule["expr"]
    for alert, query in runbook_queries().items():
        yield f"runbook: {alert}", query
    document = dashboard.load_dashboard()
    values = dashboard.variables(document, dashboard.Window(0, 21_600, 60))
    for panel in dashboard.load_panels(document):
        for target in dashboard.load_targets(panel):
            query = dashboard.fill(target["expr"], values)
            yield f"dashboard: {panel['title']} {target['refId']}", query


def runbook_queries() -> dict[str, str]:
    """The query that confirms an alert, for each entry of the runbook."""
    entries = re.split(r"^## ", RUNBOOK.read_text(encoding="utf-8"), flags=re.M)[1:]
    return {
        entry.partition("\n")[0]: query
        for entry in entries
        for query in re.findall(r"```promql\n(.*?)\n```", entry, re.S)
    }


def alert_cases() -> list[dict[str, Any]]:
    """The cases of `make test-alerts`."""
    cases: list[dict[str, Any]] = read("monitoring/alerts_test.yaml")["tests"]
    return cases


def nodes(query: str) -> list[promql_parser.Expr]:
    """All parts of an expression. Raises ValueError if it cannot be parsed."""
    found: list[promql_parser.Expr] = []
    promql_parser.walk(promql_parser.parse(query), found.append)
    return found


def selectors(query: str) -> list[promql_parser.VectorSelector]:
    """What an expression selects."""
    return [n for n in nodes(query) if isinstance(n, promql_parser.VectorSelector)]


@pytest.fixture
def exposed(client: TestClient) -> dict[str, list[dict[str, str]]]:
    """The labels of every series that the running service exposes, by its name."""
    client.post("/v1/predict", json=BODY)
    series: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            series.setdefault(sample.name, []).append(sample.labels)
    return series


def test_every_query_finds_what_the_service_exposes(
    exposed: dict[str, list[dict[str, str]]],
) -> None:
    for where, query in queries():
        for selector in selectors(query):
            assert selector.name, where
            if selector.name in RECORDED | OF_PROMETHEUS | OF_OTHERS:
                continue
            unknown = f"{where}: the service has no {selector.name}; is it OF_OTHERS?"
            assert selector.name in exposed, unknown
            for matcher in selector.matchers.matchers:
                if matcher.name in OF_TARGETS:
                    continue
                values = {labels.get(matcher.name) for labels in exposed[selector.name]}
                assert None not in values, f"{where}: no label {matcher.name}"
                # Which errors came, and what was predicted, is another matter.
                if matcher.name not in ("status", "label"):
                    assert any(matches(matcher, value) for value in values), where


def matches(matcher: promql_parser.Matcher, value: str | None) -> bool:
    """Whether a matcher selects a value."""
    op = promql_parser.MatchOp
    if matcher.op in (op.Equal, op.NotEqual):  # which have no hash
        return bool(matcher.value == value) == bool(matcher.op == op.Equal)
    found = re.fullmatch(matcher.value, value or "") is not None
    return found == bool(matcher.op == op.Re)


def test_every_query_selects_this_service_and_no_other() -> None:
    for where, query in queries():
        jobs = {
            matcher.value
            for selector in selectors(query)
            for matcher in selector.matchers.matchers
            if matcher.name == "job"
        }
        names = {selector.name for selector in selectors(query)}
        assert jobs == {SLUG} or names <= OF_OTHERS, where


def test_every_alert_says_what_who_and_where_to_read_on() -> None:
    for name, alert in alerts().items():
        assert alert["for"], name
        assert alert["labels"]["severity"] in {"page", "ticket"}, name
        assert alert["labels"]["owner"], name
        assert set(alert["annotations"]) >= {
            *("summary", "description", "threshold", "dashboard", "runbook_url")
        }
        assert all(alert["annotations"].values()), name
        assert alert["annotations"]["runbook_url"].endswith(
            f"/docs/runbook.md#{name.lower()}"
        )


def test_the_words_of_a_threshold_have_its_numbers() -> None:
    for name, alert in alerts().items():
        words = alert["annotations"]["threshold"]
        for number in numbers(alert["expr"]) - {0, 1}:
            said = {f"{number:g}", f"{number * 100:g} %"}
            assert any(form in words for form in said), f"{name}: {said}"


def test_an_objective_is_stated_once() -> None:
    objectives = [rule for rule in RULES if rule.get("record", "").startswith("slo:")]
    for objective in objectives:
        (target,) = numbers(objective["expr"])
        stated = [rule for rule in RULES if target in numbers(rule["expr"])]
        assert stated == [objective]


def numbers(query: str) -> set[float]:
    """The numbers in an expression."""
    return {n.val for n in nodes(query) if isinstance(n, promql_parser.NumberLiteral)}


def test_a_recorded_window_is_as_long_as_its_name_says() -> None:
    for rule in RULES:
        said = window(rule.get("record", ""))
        used = {window(selector.name or "") for selector in selectors(rule["expr"])}
        used |= set(re.findall(r"\[(.*?)\]", rule["expr"]))
        assert not said or used - {""} == {said}, rule["record"]


def window(name: str) -> str:
    """The duration at the end of a series' name; empty if there is none."""
    return "".join(re.findall(r"\d+[mhd]$", name))


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_must_not() -> (
    None
):
    fires: set[str] = set()
    does_not: set[str] = set()
    for case in alert_cases():
        for check in case["promql_expr_test"]:
            if match := FIRING.fullmatch(check["expr"]):
                (fires if check["exp_samples"] else does_not).add(match[1])

    assert fires == does_not == set(alerts())


def test_the_cases_are_made_of_series_that_the_rules_select() -> None:
    selected = {s.name for rule in RULES for s in selectors(rule["expr"])}
    for case in alert_cases():
        for series in case["input_series"]:
            (selector,) = selectors(series["series"])
            assert selector.name in selected, case["name"]
            assert f'job="{SLUG}"' in series["series"]


def test_alerts_and_entries_of_the_runbook_match_one_to_one() -> None:
    text = RUNBOOK.read_text(encoding="utf-8")

    assert re.findall(r"^## (\w+)$", text, re.M) == list(alerts())
    assert list(runbook_queries()) == list(alerts())


def test_what_follows_from_the_alerts_is_up_to_date() -> None:
    for path, text in expected_files().items():
        stale = f"{path.relative_to(ROOT)} is stale: run `make monitoring`"
        assert path.read_text(encoding="utf-8") == text, stale


def test_kubernetes_gets_the_same_rules_and_the_job_that_they_select() -> None:
    manifest = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))
    monitor = read("monitoring/kubernetes/pod-monitor.yaml")["spec"]
    component = read("monitoring/kubernetes/kustomization.yaml")

    assert manifest["kind"] == "PrometheusRule"
    assert manifest["spec"] == yaml.safe_load(ALERTS.read_text(encoding="utf-8"))
    assert monitor["selector"]["matchLabels"][monitor["jobLabel"]] == SLUG
    assert set(component["resources"]) == {"pod-monitor.yaml", "prometheus-rule.yaml"}
