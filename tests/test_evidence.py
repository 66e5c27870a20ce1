"""`make evidence` of a generated service, beside real Prometheus programs."""

import http.server
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.alerts import free_port, running, wait_until
from tests.conftest import Service, copy, run
from tests.test_service import edit, path_without

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not shutil.which("prometheus"),
        reason="Prometheus is not installed: apt-get install prometheus",
    ),
]

USER, PASSWORD, QUOTED = "robot", "p@ss:w/rd", "p%40ss%3Aw%2Frd"
HASH = "$2b$04$abcdefghijklmnopqrstuuN97fd6EA/p32TVpg5ldcQZGGJqxtc.e"  # of PASSWORD
LABEL = r"$\frac{1}{0}$ _x"  # which matplotlib would take for mathematics


@contextmanager
def prometheus(directory: Path, job: str, **options: Any) -> Iterator[str]:
    """A Prometheus that scrapes itself as a job; gives its address, with a prefix.

    It wants a password: see `with_password`.
    """
    port = free_port()
    scrape = {
        "job_name": job,
        "metrics_path": "/prefix/metrics",
        "basic_auth": {"username": USER, "password": PASSWORD},
        "static_configs": [
            {"targets": [f"127.0.0.1:{port}"], "labels": {"cost": LABEL}}
        ],
    }
    settings = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    content = {"global": settings, "scrape_configs": [scrape], **options}
    (directory / "prometheus.yml").write_text(json.dumps(content))
    (directory / "web.yml").write_text(json.dumps({"basic_auth_users": {USER: HASH}}))
    with running(
        "prometheus",
        f"--config.file={directory / 'prometheus.yml'}",
        f"--web.config.file={directory / 'web.yml'}",
        f"--storage.tsdb.path={directory / 'series'}",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--web.external-url=http://127.0.0.1:{port}/prefix/",
        log=directory / "log",
    ):
        address = f"http://127.0.0.1:{port}/prefix"
        wait_until(lambda: wants_a_password(f"{address}/-/ready"), "Prometheus answers")
        yield address


def wants_a_password(url: str) -> bool:
    """Whether a URL answers 401."""
    try:
        urlopen(url, timeout=10).close()
    except HTTPError as error:
        return error.code == 401
    return False


def with_password(address: str) -> str:
    """The address as a user gives it."""
    return address.replace("://", f"://{USER}:{QUOTED}@")


def take(service: Service, **variables: str) -> subprocess.CompletedProcess[str]:
    """What `make evidence` runs."""
    command = ("python", "-m", "monitoring.evidence")
    return service.run(*command, check=False, **variables)


@contextmanager
def answering(
    body: str, status: int = 200, **headers: str
) -> Iterator[tuple[str, list[str]]]:
    """A server with one answer; gives its URL and the credentials that it was sent."""
    sent: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent.append(self.headers.get("Authorization", ""))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", sent
    server.shutdown()
    server.server_close()


def test_the_evidence_of_a_local_service_has_every_panel_and_alert(
    trained: Service, tmp_path: Path
) -> None:
    service = copy(trained, tmp_path)

    output = service.make("evidence").stdout

    assert "See docs/evidence/README.md" in output
    evidence = json.loads(service.read("docs/evidence/evidence.json"))
    report = service.read("docs/evidence/README.md")
    panels = json.loads(service.read("monitoring/dashboard.json"))["panels"]
    titles = [panel["title"] for panel in panels if panel["type"] != "row"]
    assert [panel["title"] for panel in evidence["panels"]] == titles
    for panel in evidence["panels"]:
        picture = (service.path / "docs" / "evidence" / panel["picture"]).read_bytes()
        assert picture.startswith(b"\x89PNG") and len(picture) > 5_000
        assert f"({panel['picture']})" in report
    assert len(evidence["alerts"]) == 15
    assert {alert["remark"] for alert in evidence["alerts"]} == {""}
    model = json.loads(service.read("models/model.json"))
    assert run("git", "rev-parse", "HEAD", cwd=service.path).stdout.strip() in report
    assert model["version"] in evidence["facts"]["Models served"]
    assert "intent-service 0.1.0" in report


def test_the_evidence_of_a_deployed_service_has_the_panels_of_its_user(
    default: Service, tmp_path: Path
) -> None:
    service = copy(default, tmp_path)
    requests = 'prometheus_http_requests_total{job="intent-service"}'
    buckets = 'prometheus_http_request_duration_seconds_bucket{job="intent-service"'
    panels = [
        {
            "type": "row",
            "collapsed": True,
            "panels": [panel("Folded | $up", 'up{instance=~"$instance"}')],
        },
        panel("Rates", f"rate({requests}[$__rate_interval])", "{{handler}} {{code}}"),
        panel(
            "Buckets",
            f'sum by (le) (rate({buckets}, handler=~"$handler"}}[$__rate_interval]))',
            type="heatmap",
        ),
        panel("Nothing", 'no_such_series{job="intent-service"}'),
        panel("Nonsense", "sum(("),
        panel("Unknown", 'up{zone="$zone"}'),
        {"type": "text", "title": "Words"},
    ]
    variables: list[dict[str, Any]] = [
        {"name": "instance", "type": "query", "includeAll": True, "current": {}},
        {"name": "handler", "type": "custom", "current": {"value": ["/a.b", "$__all"]}},
    ]
    variables[1]["includeAll"] = True
    document = {"time": {"from": "now-5m"}, "panels": panels}
    document["templating"] = {"list": variables}
    (service.path / "monitoring/dashboard.json").write_text(json.dumps(document))
    stale = {"alert": "NotReady", "expr": 'service_ready{job="intent-service"} > 7'}
    other = {"alert": "NoTraffic", "expr": 'up{job="other-service"} == 1'}
    group = {"name": "g", "rules": [stale, other]}
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [group]}))
    kept = service.path / "docs" / "evidence" / "mine.png"
    kept.parent.mkdir()
    kept.write_bytes(b"a picture of my own")

    with prometheus(tmp_path, "intent-service", rule_files=["rules.yml"]) as address:
        time.sleep(8)  # its first target takes five seconds, a rate two scrapes
        done = take(service, PROMETHEUS_URL=f"{with_password(address)}/")

    assert done.returncode == 1  # something is missing
    found = json.loads(service.read("docs/evidence/evidence.json"))
    by_title = {panel["title"]: panel for panel in found["panels"]}
    assert [title for title, one in by_title.items() if "picture" in one] == [
        *("Folded | $up", "Rates", "Buckets")
    ]
    assert by_title["Folded | $up"]["queries"] == ['up{instance=~".*"}']
    assert 'handler=~".*"}[4m]' in by_title["Buckets"]["queries"][0]
    assert by_title["Nothing"]["remark"] == "Prometheus has no series for it."
    assert "parse error" in by_title["Nonsense"]["remark"]
    assert "has no value for $zone" in by_title["Unknown"]["remark"]
    alerts = {alert["alert"]: alert for alert in found["alerts"]}
    assert "another expression" in alerts["NotReady"]["remark"]
    assert alerts["NoTraffic"]["state"] == "not loaded"
    report = service.read("docs/evidence/README.md")
    assert "### Folded \\| \\$up" in report
    assert "| Instances scraped | 1 of 1 |" in report
    assert address in report
    for secret in (PASSWORD, QUOTED, USER):
        assert secret not in report + json.dumps(found) + done.stdout
    assert "Traceback" not in done.stdout
    assert kept.read_bytes() == b"a picture of my own"


def panel(title: str, query: str, legend: str = "", **more: str) -> dict[str, Any]:
    """A panel as Grafana writes it."""
    target = {"refId": "A", "expr": query, "legendFormat": legend}
    return {"type": "timeseries", "title": title, "targets": [target], **more}


def test_a_prometheus_that_does_not_scrape_the_service_is_no_evidence(
    default: Service, tmp_path: Path
) -> None:
    service = copy(default, tmp_path)

    with prometheus(tmp_path, "other-service") as address:
        done = take(service, PROMETHEUS_URL=with_password(address))

    assert done.returncode == 1
    assert 'no series up{job="intent-service"}' in done.stdout
    report = service.read("docs/evidence/README.md")
    assert report.count("\n\nPrometheus has no series for it.\n") == 17
    assert "![" not in report
    assert "| Instances scraped | 0 of 0 |" in report


def test_an_address_that_cannot_be_used_is_named_without_its_password(
    default: Service, tmp_path: Path
) -> None:
    service = copy(default, tmp_path)
    kept = service.path / "docs" / "evidence" / "README.md"
    kept.parent.mkdir()
    kept.write_text("The evidence of last month.")
    page = answering("<html>Log in</html>")
    login = answering("", 302, Location="https://login.example.com")
    denied = answering('{"status": "error", "error": "denied"}', 403)
    with page as (page_url, _), login as (login_url, _), denied as (denied_url, _):
        cases = {
            f"http://me:hidden@127.0.0.1:{free_port()}/x": "/x does not answer: ",
            "prometheus.example.com:9090": "is no address such as",
            "ftp://me:hidden@prometheus.example.com": "is no address such as",
            "http://me:hid/den@prometheus.example.com": "is no address such as",
            "http://me:12#hidden@prometheus.example.com": "is no address such as",
            page_url: "answers 200, and not as Prometheus does",
            login_url: "answers 302, and not as Prometheus does",
            denied_url: "answers 403: set user and password",
        }
        outputs = {url: take(service, PROMETHEUS_URL=url).stdout for url in cases}

    for url, words in cases.items():
        assert words in outputs[url]
        assert "hid" not in outputs[url] and "Traceback" not in outputs[url]
    assert kept.read_text() == "The evidence of last month."


def test_a_token_is_sent_and_not_told(default: Service, tmp_path: Path) -> None:
    service = copy(default, tmp_path)
    data = {"result": [], "groups": [], "version": "9.9.9"}

    with answering(json.dumps({"status": "success", "data": data})) as (url, sent):
        done = take(service, PROMETHEUS_URL=url, PROMETHEUS_TOKEN="hidden-token\n")

    assert set(sent) == {"Bearer hidden-token"}
    assert "9.9.9" in service.read("docs/evidence/README.md")
    written = "".join(
        path.read_text() for path in (service.path / "docs/evidence").iterdir()
    )
    assert "hidden" not in written + done.stdout


def test_without_prometheus_the_evidence_says_how_to_get_it(
    default: Service, tmp_path: Path
) -> None:
    path = path_without(tmp_path / "bin", "prometheus")

    done = take(default, PATH=f"{default.path / '.venv' / 'bin'}:{path}")

    assert done.returncode == 1
    assert done.stdout.count("\n") == 2  # what it does, and why it cannot
    assert "prometheus is missing: apt-get install prometheus" in done.stdout


def test_a_service_that_does_not_start_says_why(
    trained: Service, tmp_path: Path
) -> None:
    service = copy(trained, tmp_path)
    shutil.rmtree(service.path / "models")

    done = take(service, LOG_LEVEL="loud")

    assert done.returncode == 1
    assert "did not start" in done.stdout and "LOG_LEVEL='loud'" in done.stdout
    assert not (service.path / "docs" / "evidence").exists()


def test_a_dashboard_of_another_model_is_refused(
    default: Service, tmp_path: Path
) -> None:
    service = copy(default, tmp_path)
    edit(service, "monitoring/dashboard.json", '"panels": [\n', '"elements": [\n')

    with answering('{"status": "success", "data": {"result": []}}') as (url, _):
        done = take(service, PROMETHEUS_URL=url)

    assert done.returncode == 1
    assert "no dashboard in Grafana's classic model" in done.stdout
