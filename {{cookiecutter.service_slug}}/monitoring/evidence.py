"""`make evidence`: what the monitoring of the service shows now.

Draws each panel of the dashboard from what its queries give, and lists the state of
each alert, in docs/evidence. It asks the Prometheus at `PROMETHEUS_URL`, with the
bearer token `PROMETHEUS_TOKEN` if that is set; without a URL, a local one.
"""

import json
import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import numpy as np
import promql_parser

from monitoring import dashboard
from monitoring.__main__ import PROJECT, ROOT, SLUG, Rule, load_rules, table
from monitoring.dashboard import DashboardError, Line, Panel, Window
from monitoring.prometheus import (
    SECONDS,
    EvidenceError,
    Prometheus,
    QueryError,
    local_prometheus,
)

JOB = '{job="%s"}' % SLUG  # what selects the series of this service
EVIDENCE = ROOT / "docs" / "evidence"
POINTS = 240  # in a picture
LOCAL_RANGE = "5s"  # in place of longer ranges, where there are seconds to look at
STATES = ["firing", "pending", "inactive", "unknown"]  # the worst first

Evidence = dict[str, Any]


def gather(prometheus: Prometheus) -> tuple[Evidence, dict[str, bytes]]:
    """Return what Prometheus shows, as JSON data, and the pictures by file name.

    Raises EvidenceError if Prometheus does not answer, and DashboardError if the
    dashboard cannot be read.
    """
    document = dashboard.load_dashboard()
    now = time.time()
    seconds = SECONDS if prometheus.local else dashboard.shown_seconds(document)
    window = Window(now - seconds, now, max(seconds / POINTS, 1.0))
    values = dashboard.variables(document, window)
    if prometheus.local:
        values["__rate_interval"] = LOCAL_RANGE

    missing, pictures, panels = [], {}, []
    up = prometheus.ask("query", query=f"up{JOB}")["result"]
    scraped = [one for one in up if one["value"][1] == "1"]
    if not up:
        missing.append(
            f"There is no series up{JOB}: this Prometheus does not scrape "
            "the service, or under another job. docs/monitoring.md says how it should."
        )
    elif not scraped:
        missing.append("No instance of the service is scraped with success.")
    facts = {
        **gather_facts(prometheus, window),
        "Instances scraped": f"{len(scraped)} of {len(up)}",
    }
    for number, panel in enumerate(dashboard.load_panels(document), 1):
        found, picture = gather_panel(panel, prometheus, window, values)
        if picture:
            name = re.sub(r"[^a-z0-9]+", "-", found["title"].lower()).strip("-")
            found["picture"] = f"{number:02}-{name}.png"
            pictures[found["picture"]] = picture
        elif found["queries"]:
            missing.append(f"Panel {found['title']}: {found['remark']}")
        panels.append(found)
    alerts = gather_alerts(prometheus)
    missing += [
        f"Alert {one['alert']}: {one['remark']}" for one in alerts if one["remark"]
    ]
    return (
        {"facts": facts, "missing": missing, "alerts": alerts, "panels": panels},
        pictures,
    )


def gather_facts(prometheus: Prometheus, window: Window) -> dict[str, str]:
    """Return what was looked at, where and when."""
    models = prometheus.ask("query", query=f"model_info{JOB}")["result"]
    versions = {
        f"{one['metric']['version']}, trained at {one['metric']['trained_at']}"
        for one in models
    }
    try:
        version = prometheus.ask("status/buildinfo")["version"]
    except (EvidenceError, QueryError, KeyError, TypeError):
        version = "unknown"  # others speak PromQL, too
    start, end = (
        datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S")
        for moment in (window.start, window.end)
    )
    where = "run on this machine" if prometheus.local else prometheus.address
    return {
        "Date": f"{end} UTC",
        "Shown": f"{start} to {end} UTC",
        "Service": f"{SLUG} {PROJECT['project']['version']}",
        "Git revision of this checkout": revision(),
        "Models served": "; ".join(sorted(versions)) or "none is reported",
        "Prometheus": f"{version}, {where}",
    }


def revision() -> str:
    """Return the commit that is checked out, "-dirty" if files were edited since."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    with suppress(OSError):  # there may be no Git
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip() or "unknown"
    return "unknown"


def gather_panel(
    panel: Panel, prometheus: Prometheus, window: Window, values: dict[str, str]
) -> tuple[Evidence, bytes | None]:
    """Return what a panel shows, and its picture if there is something to see."""
    queries: list[str] = []
    found: Evidence = {
        "title": panel.get("title") or "Untitled",
        "queries": queries,
        "remark": "",
    }
    lines: list[Line] = []
    try:
        for target in dashboard.load_targets(panel):
            queries.append(target["expr"])
            query = dashboard.fill(target["expr"], values)
            if prometheus.local:
                query = re.sub(r"\[\d+[smhdwy]\]", f"[{LOCAL_RANGE}]", query)
            queries[-1] = query
            span = {"start": window.start, "end": window.end, "step": window.step}
            for one in prometheus.ask("query_range", query=query, **span)["result"]:
                name = dashboard.legend(target, one["metric"], found["title"])
                # A native histogram has no values.
                line = Line(one["metric"], name, window.grid(one.get("values", [])))
                lines += [] if np.isnan(line.values).all() else [line]
    except (DashboardError, QueryError) as error:
        return {**found, "remark": f"The query cannot be run: {error}."}, None
    if not lines:
        what = (
            "Prometheus has no series for it" if queries else "It has no PromQL query"
        )
        return {**found, "remark": f"{what}."}, None
    return found, dashboard.draw(panel, lines, window)


def gather_alerts(prometheus: Prometheus) -> list[dict[str, str]]:
    """Return the state of each alert of alerts.yaml in Prometheus."""
    loaded, reason = [], "Prometheus has not loaded it."
    try:
        for group in prometheus.ask("rules", type="alert")["groups"]:
            loaded += group["rules"]
    except QueryError as error:
        reason = f"Prometheus does not tell its rules: {error}."
    alerts = []
    for rule in load_rules():
        if "alert" not in rule:
            continue
        seen = {"state": "not loaded", "since": "", "remark": reason}
        # Another service may have alerts of the same name.
        ours = [
            one
            for one in loaded
            if one["name"] == rule["alert"]
            and (SLUG in one["query"] or SLUG not in rule["expr"])
        ]
        if ours:
            seen = describe(min(ours, key=lambda one: STATES.index(one["state"])), rule)
        said = {
            "alert": rule["alert"],
            "severity": rule.get("labels", {}).get("severity", ""),
        }
        threshold = rule.get("annotations", {}).get("threshold", "")
        alerts.append({**said, **seen, "threshold": threshold})
    return alerts


def describe(loaded: dict[str, Any], rule: Rule) -> dict[str, str]:
    """Return state, begin and what is wrong of an alert that Prometheus has loaded."""
    since = min((one["activeAt"] for one in loaded["alerts"]), default="")
    remark = ""
    if formatted(loaded["query"]) != formatted(rule["expr"]):
        remark = "Prometheus has another expression than monitoring/alerts.yaml."
    if loaded.get("health") == "err":
        remark = f"It cannot be evaluated: {loaded.get('lastError')}."
    return {"state": loaded["state"], "since": since[:19], "remark": remark}


def formatted(query: str) -> str:
    """Return a query as one formatter writes it; as it is, if that cannot read it."""
    with suppress(ValueError):
        return promql_parser.parse(query).prettify()
    return query


def render(evidence: Evidence) -> str:
    """Return the evidence as Markdown."""
    columns = ["alert", "severity", "state", "since", "threshold"]
    alerts = [[escape(one[name]) for name in columns] for one in evidence["alerts"]]
    facts = [[name, escape(fact)] for name, fact in evidence["facts"].items()]
    parts = [
        "# Evidence of the monitoring",
        "`make evidence` wrote this from evidence.json.",
        table(["What", "Which"], facts),
        *(f"**Missing.** {escape(one)}" for one in evidence["missing"]),
        "## Alerts",
        table(["Alert", "Severity", "State", "Since (UTC)", "Triggered when"], alerts),
        "## Panels of the dashboard",
    ]
    for panel in evidence["panels"]:
        title = escape(panel["title"])
        parts.append(f"### {title}")
        parts.append(escape(panel["remark"]) or f"![{title}]({panel['picture']})")
        parts += ["    " + query.replace("\n", "\n    ") for query in panel["queries"]]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def escape(text: str) -> str:
    """Return Markdown that shows a text as it is, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>#|~$&])", r"\\\1", " ".join(text.split()))


def write(evidence: Evidence, pictures: dict[str, bytes]) -> None:
    """Write docs/evidence in place of what the last run wrote there."""
    EVIDENCE.mkdir(parents=True, exist_ok=True)
    data = EVIDENCE / "evidence.json"
    with suppress(OSError, ValueError, KeyError, TypeError):  # there was no last run
        for panel in json.loads(data.read_text(encoding="utf-8"))["panels"]:
            if panel.get("picture"):
                (EVIDENCE / panel["picture"]).unlink(missing_ok=True)
    for name, picture in pictures.items():
        (EVIDENCE / name).write_bytes(picture)
    text = json.dumps(evidence, indent=2, ensure_ascii=False)
    data.write_text(f"{text}\n", encoding="utf-8")
    (EVIDENCE / "README.md").write_text(render(evidence), encoding="utf-8")


def main() -> int:
    """Take the evidence; return the exit code: 1 if something is missing."""
    url = os.environ.get("PROMETHEUS_URL")
    token = os.environ.get("PROMETHEUS_TOKEN", "").strip()
    try:
        if url:
            evidence, pictures = gather(Prometheus(url, token))
        else:
            print(f"Running the service and Prometheus for {SECONDS:.0f} s", flush=True)
            with local_prometheus() as prometheus:
                evidence, pictures = gather(prometheus)
    except (EvidenceError, DashboardError) as error:
        print(error, file=sys.stderr)
        return 1
    write(evidence, pictures)
    print(f"See {(EVIDENCE / 'README.md').relative_to(ROOT)}")
    for fault in evidence["missing"]:
        print(fault, file=sys.stderr)
    return 1 if evidence["missing"] else 0


if __name__ == "__main__":
    sys.exit(main())
