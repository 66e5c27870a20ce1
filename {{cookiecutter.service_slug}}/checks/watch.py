"""Monitoring (M) and the way to production (P)."""

import re
from collections.abc import Iterator
from datetime import date

from checks import markdown
from checks.repository import Repository
from checks.results import Finding
from checks.rule import rule
from monitoring.__main__ import metrics

ALERTS = "monitoring/alerts.yaml"
MONITORING = "docs/monitoring.md"
EVIDENCE = "docs/evidence/evidence.json"
EVIDENCE_DAYS = 90
GUIDE = "docs/first-service.md"
STAGES = ("dev", "stage", "prod")


@rule("M1")
def what_is_monitored_is_listed(repository: Repository) -> Iterator[Finding]:
    """The service that is owned is listed, with the parameters that are monitored.

    docs/monitoring.md names service and owner and has a row for each metric; each alert
    has an entry in docs/runbook.md.
    """
    rows = repository.table(MONITORING)
    for name, part in (("Service", repository.slug), ("Owner", ""), ("Monitored", "")):
        if not rows.get(name) or part not in rows[name]:
            what = f"Fill the row “{name}” of “What is owned”."
            yield repository.find(MONITORING, what, "What is owned")
    for metric, *_ in metrics():
        if metric not in rows:
            yield Finding(f"It does not list {metric}: `make monitoring`.", MONITORING)
    entries = {s.title for s in markdown.sections(repository.read("docs/runbook.md"))}
    for alert in repository.alerts:
        if alert["alert"] not in entries:
            what = f"Write an entry for the alert {alert['alert']}."
            yield Finding(what, "docs/runbook.md")


@rule("M2")
def uptime_and_degradation_have_alerts(repository: Repository) -> Iterator[Finding]:
    """Alerts tell of uptime and of degradation: latency, throughput."""
    yield from lacking(
        repository,
        {
            "uptime": r"\bup\b|absent|service_ready",
            "failed requests": r"http_errors|status=~\"5",
            "latency": r"duration_seconds|slow_predictions",
            "throughput": r"rate\(http_requests_total|http_requests:",
        },
    )


@rule("M3")
def resources_have_alerts(repository: Repository) -> Iterator[Finding]:
    """Alerts tell of disk, CPU and memory, each with its threshold and its trigger.

    The annotation `threshold` of each alert says it in words, `for` how long it lasts.
    """
    yield from lacking(
        repository,
        {"disk": r"disk_\w+", "CPU": r"cpu_\w+", "memory": r"memory_\w+"},
    )
    for alert in repository.alerts:
        name = alert["alert"]
        if not alert.get("annotations", {}).get("threshold"):
            what = f"{name} has no threshold: say it in the annotation `threshold`."
            yield repository.find(ALERTS, what, f"alert: {name}")
        if not alert.get("for"):
            what = f"{name} does not say how long it must last: `for: 5m`."
            yield repository.find(ALERTS, what, f"alert: {name}")


def lacking(repository: Repository, kinds: dict[str, str]) -> Iterator[Finding]:
    """Yield the kinds of alerts of which there is none; a pattern tells each."""
    for kind, pattern in kinds.items():
        if not any(re.search(pattern, alert["expr"]) for alert in repository.alerts):
            yield Finding(f"There is no alert for {kind}.", ALERTS)


@rule("M4")
def evidence_is_there_and_recent(repository: Repository) -> Iterator[Finding]:
    """Pictures of the monitoring, taken now, show that it is there.

    `make evidence` draws them from the Prometheus that watches the deployed service.
    They are at most 90 days old, no panel and no alert is missing, and it was not one
    that ran on a developer's machine.
    """
    if not repository.has(EVIDENCE):
        yield Finding(
            "Set PROMETHEUS_URL to the Prometheus that watches the service, run "
            "`make evidence`, and commit docs/evidence.",
            "docs/evidence",
        )
        return
    evidence = repository.json(EVIDENCE)
    taken = date.fromisoformat(evidence["facts"]["Date"][:10])
    days = (repository.today - taken).days
    if days > EVIDENCE_DAYS:
        yield Finding(f"It is {days} days old: `make evidence`.", EVIDENCE)
    if "this machine" in evidence["facts"].get("Prometheus", ""):
        what = "It shows a trial: take it from the deployed service (PROMETHEUS_URL)."
        yield Finding(what, EVIDENCE)
    for missing in evidence["missing"]:
        yield Finding(missing, EVIDENCE)
    for panel in evidence["panels"]:
        picture = panel.get("picture")
        if picture and not repository.has(f"docs/evidence/{picture}"):
            yield Finding(f"The picture {picture} is missing.", EVIDENCE)
    shown = {one["alert"] for one in evidence["alerts"]}
    for alert in repository.alerts:
        if alert["alert"] not in shown:
            what = f"It does not show the alert {alert['alert']}: `make evidence`."
            yield Finding(what, EVIDENCE)


@rule("P1")
def guide_leads_to_production(repository: Repository) -> Iterator[Finding]:
    """A guide leads step by step from the first run to dev, stage and production.

    docs/first-service.md names a verb for each step and every stage that
    deploy/overlays has; each stage has an overlay.
    """
    text = repository.read(GUIDE)
    yield from repository.unwritten(GUIDE)
    for verb in ("setup", "train", "test", "launch", "image", "deploy", "rollback"):
        if not re.search(rf"make {verb}\b", text):
            yield Finding(f"It has no step with `make {verb}`.", GUIDE)
    overlays = {
        name.split("/")[2]
        for name in repository.files
        if name.startswith("deploy/overlays/")
    }
    for stage in sorted({*STAGES, *overlays}):
        if stage not in overlays:
            yield Finding(f"The stage {stage} has no overlay.", "deploy/overlays")
        if not re.search(rf"\b{stage}\b", text):
            yield Finding(f"It does not say how to get to {stage}.", GUIDE)
