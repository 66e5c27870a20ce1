"""Breaks services in every way that an alert is for, and keeps what a webhook is told.

Each scene has a service of its own, watched as a job of its own by one Prometheus: all
scenes are played at once. Time is compressed: every duration of the rules is
divided by `FACTOR`, so that an hour passes in half a minute.
"""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

from tests.conftest import ENVIRONMENT, Service, read_texts

FACTOR = 120
STEP = 0.5  # seconds between scrapes and between evaluations
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
PATIENCE = 90.0  # seconds to wait for what must come
RATE = 60.0  # requests a second: ThroughputDrops wants 100 in what were five minutes
CLIENTS = 16  # of each service

SMALL_CONTAINER = """
mount -t tmpfs -o size=10m tmpfs "$TMPDIR"
head -c 9500000 /dev/zero >"$TMPDIR/full"
mount -t tmpfs tmpfs /sys/fs/cgroup
echo 2000 100000 >/sys/fs/cgroup/cpu.max
echo "$MEMORY" >/sys/fs/cgroup/memory.max
exec "$0" "$@"
"""


# What the rules and documents of a service become.


def compressed(query: str) -> str:
    """The query with each range and offset divided by `FACTOR`."""
    return re.sub(r"(\[|offset )(\d+[smhdw])", lambda m: m[1] + shorter(m[2]), query)


def shorter(duration: str) -> str:
    """A duration of Prometheus, such as 5m, divided by `FACTOR`."""
    return f"{int(duration[:-1]) * UNITS[duration[-1]] * 1000 // FACTOR}ms"


def load_rules(service: Service) -> dict[str, Any]:
    """The document of monitoring/alerts.yaml."""
    document: dict[str, Any] = yaml.safe_load(service.read("monitoring/alerts.yaml"))
    return document


def compressed_rules(service: Service, job: str) -> dict[str, Any]:
    """alerts.yaml for a job, with every duration divided by `FACTOR`."""
    document = load_rules(service)
    for group in document["groups"]:
        for rule in group["rules"]:
            rule["expr"] = of_job(compressed(rule["expr"]), service, job)
            if "job" in rule.get("labels", {}):
                rule["labels"]["job"] = job
            if "for" in rule:
                rule["for"] = shorter(rule["for"])
    return document


def of_job(query: str, service: Service, job: str) -> str:
    """The query about another job than that of the service."""
    return query.replace(f'job="{service.path.name}"', f'job="{job}"')


def runbook_queries(service: Service) -> dict[str, str]:
    """The query that confirms an alert, for each entry of the runbook."""
    entries = re.split(r"^## ", service.read("docs/runbook.md"), flags=re.M)[1:]
    return {
        entry.partition("\n")[0]: query
        for entry in entries
        for query in re.findall(r"```promql\n(.*?)\n```", entry, re.S)
    }


def dashboard_queries(service: Service) -> dict[str, str]:
    """The queries of the dashboard, by panel and target."""
    document = json.loads(service.read("monitoring/dashboard.json"))
    return {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in document["panels"]
        for target in panel.get("targets", [])
    }


# What runs.


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def ask(url: str) -> Any:
    """The JSON answer of an address; of an error, too. Raises OSError if none comes."""
    try:
        with urlopen(url, timeout=10) as answer:
            return json.load(answer)
    except HTTPError as error:
        return json.load(error)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that must come true. Raises AssertionError if it does not."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with suppress(OSError, ValueError):
            if condition():
                return
        time.sleep(0.1)
    raise AssertionError(f"in {PATIENCE:.0f} s it did not come true: {what}")


@contextmanager
def running(*command: str, log: Path) -> Iterator[None]:
    """A program that runs as long as the block; what it says goes into a file."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True)
class Message:
    """An alert as it arrived at the webhook."""

    job: str
    alert: str
    status: str
    description: str


@contextmanager
def receiver(messages: list[Message]) -> Iterator[str]:
    """A webhook that keeps what Alertmanager sends; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            for alert in body["alerts"]:
                labels, text = alert["labels"], alert["annotations"]["description"]
                told = labels["job"], labels["alertname"], alert["status"], text
                messages.append(Message(*told))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


# Starts the service again whenever it ends, without the time that its imports take.
SUPERVISOR = """
import os, runpy
import app.main
while True:
    if os.fork() == 0:
        runpy.run_module("app", run_name="__main__")
    os.wait()
"""


class Application:
    """`python -m app` on one port."""

    def __init__(self, service: Service, log: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._service = service
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *before: str, program: str = "", **settings: str) -> None:
        """Start it with these settings, after the words of a command before its own."""
        place = {"HOST": "127.0.0.1", "PORT": str(self.port)}
        python = str(self._service.path / ".venv" / "bin" / "python")
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [*before, python, *(["-c", program] if program else ["-m", "app"])],
                cwd=self._service.path,
                env=ENVIRONMENT | place | settings,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def ready(self) -> None:
        """Wait until it takes traffic."""
        wait_until(
            lambda: ask(f"{self.url}/readyz")["status"] == "ready",
            f"{self.url} is ready",
        )

    def crash(self) -> None:
        """End a supervised service, which is then started again."""
        assert self._process
        supervisor = self._process.pid
        children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text()
        os.kill(int(children.split()[0]), signal.SIGKILL)

    def kill(self) -> None:
        """End it at once, and whatever it has started."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def memory(self) -> float:
        """Its resident memory in bytes."""
        return self._metric("process_resident_memory_bytes")

    def slow(self) -> float:
        """The share of predictions that took over 250 ms."""
        name = "http_request_duration_seconds"
        fast = self._metric(f'{name}_bucket{{le="0.25",route="/v1/predict"}}')
        return 1 - fast / self._metric(f'{name}_count{{route="/v1/predict"}}')

    def _metric(self, series: str) -> float:
        with urlopen(f"{self.url}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        (value,) = (line.split()[1] for line in lines if line.startswith(f"{series} "))
        return float(value)


class Load:
    """Clients that send predictions at a rate, whatever becomes of the answers."""

    def __init__(self, port: int, texts: list[str]) -> None:
        self.rate = 0.0  # requests a second
        self.pause = 0.0  # seconds from the head of a request to its body
        self.together = False  # all clients at the same moments
        self.texts = texts
        self.instances = 1  # in a request
        self._port = port
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._send_on) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Let no client go on."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _send_on(self) -> None:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=20)
        while not self._over.is_set():
            if self.rate == 0:
                self._over.wait(STEP)
                continue
            period = CLIENTS / self.rate
            until_next = period - time.time() % period
            wait = until_next if self.together else random.uniform(0.5, 1.5) * period
            self._over.wait(wait)
            texts = random.choices(self.texts, k=self.instances)
            body = json.dumps({"instances": [{"text": text} for text in texts]})
            try:
                connection.putrequest("POST", "/v1/predict")
                connection.putheader("Content-Type", "application/json")
                connection.putheader("Content-Length", str(len(body.encode())))
                connection.endheaders()
                time.sleep(self.pause)
                connection.send(body.encode())
                connection.getresponse().read()
            except (OSError, HTTPException):
                connection.close()
        connection.close()


# What is done to the services.


@dataclass
class Stage:
    """Where a scene is played: a service and its clients."""

    job: str
    run: "Run"
    application: Application
    load: Load

    def wait_for(self, *alerts: str) -> None:
        """Wait until alerts of this job have arrived. Raises AssertionError if not."""
        wait_until(
            lambda: self.run.fired(self.job) >= set(alerts),
            f"{', '.join(alerts)} of {self.job} arrive",
        )

    def little_traffic(self) -> None:
        """An hour with sentences as in training, then a tenth of the traffic."""
        self.load.rate = RATE
        time.sleep(3600 / FACTOR + 2 * STEP)
        self.run.without_reason = self.run.fired(self.job)
        self.run.slow = self.application.slow()
        self.load.rate = RATE / 10
        self.wait_for("ThroughputDrops")

    def no_model(self) -> None:
        """No model; a few requests, then none."""
        self.load.rate = RATE
        time.sleep(600 / FACTOR)
        self.load.rate = 0
        self.wait_for("NotReady", "InstanceNotReady", "NoTraffic")

    def overload(self) -> None:
        """Many requests at the same moment, where one may be in work."""
        self.load.together, self.load.instances = True, 20
        self.load.rate = 2 * CLIENTS
        burns = ("AvailabilityBurnsFast", "AvailabilityBurns")
        self.wait_for(*burns, "AvailabilityBurnsSlowly")

    def late_bodies(self) -> None:
        """Every body comes half a second after its headers."""
        self.load.rate, self.load.pause = RATE / 3, 0.5
        self.wait_for("LatencyBurnsFast", "LatencyBurnsSlowly")

    def one_sentence(self) -> None:
        """Everybody says the same sentence, to a container that is too small."""
        self.load.texts, self.load.instances = self.load.texts[:1], 20
        self.load.rate = RATE / 4
        small = ("CpuSaturated", "MemoryNearLimit", "DiskNearlyFull")
        self.wait_for("LabelDrift", *(small if can_mount() else ()))

    def crashes(self) -> None:
        """SIGKILL and a new start, again and again; then no new start."""
        started = f'process_start_time_seconds{{job="{self.job}"}}'
        for _ in range(8):
            before = self.run.value(started)
            self.application.crash()
            wait_until(
                lambda: self.run.value(started) not in {before, None},
                "Prometheus sees the new process",
            )
            if "RestartsOften" in self.run.fired(self.job):
                break
        self.wait_for("RestartsOften")
        self.application.kill()
        self.wait_for("NoTarget")


SCENES = (
    Stage.little_traffic,
    Stage.no_model,
    Stage.overload,
    Stage.late_bodies,
    Stage.one_sentence,
    Stage.crashes,
)
# The jobs that must set an alert off, by the name of their scene.
JOBS = {
    "AvailabilityBurnsFast": "overload",
    "AvailabilityBurns": "overload",
    "AvailabilityBurnsSlowly": "overload",
    "LatencyBurnsFast": "late_bodies",
    "LatencyBurnsSlowly": "late_bodies",
    "ThroughputDrops": "little_traffic",
    "NoTraffic": "no_model",
    "NoTarget": "crashes",
    "NotReady": "no_model",
    "InstanceNotReady": "no_model",
    "RestartsOften": "crashes",
    "CpuSaturated": "one_sentence",
    "MemoryNearLimit": "one_sentence",
    "DiskNearlyFull": "one_sentence",
    "LabelDrift": "one_sentence",
}
IN_SMALL_CONTAINER = {"CpuSaturated", "MemoryNearLimit", "DiskNearlyFull"}

# A second job that watches the scene no_model, with one rule that can never fire.
BROKEN = "broken"

OWN_MOUNTS = ("unshare", "--map-root-user", "--mount")


@cache
def can_mount() -> bool:
    """Whether this machine gives a process mounts of its own."""
    trial = [*OWN_MOUNTS, "mount", "-t", "tmpfs", "tmpfs", "/sys/fs/cgroup"]
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(trial, capture_output=True).returncode == 0


@dataclass
class Run:
    """What was seen while all scenes were played."""

    prometheus: str
    start: float = 0.0
    messages: list[Message] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)  # scenes that did not end well
    without_reason: set[str] = field(default_factory=set)  # fired while all was well
    slow: float = 0.0  # share of predictions that took over 250 ms while all was well

    def fired(self, job: str) -> set[str]:
        """The alerts of a job that arrived at the webhook."""
        return {m.alert for m in self.messages if (m.job, m.status) == (job, "firing")}

    def firing(self) -> set[tuple[str, str]]:
        """Job and name of the alerts that were not resolved."""
        last = {(m.job, m.alert): m.status for m in self.messages}
        return {alert for alert, status in last.items() if status == "firing"}

    def up(self) -> int:
        """How many services Prometheus scrapes with success."""
        targets = ask(f"{self.prometheus}/api/v1/targets")["data"]["activeTargets"]
        return sum(target["health"] == "up" for target in targets)

    def value(self, query: str) -> str | None:
        """The value of a query now; None if it gives no series."""
        answer = ask(f"{self.prometheus}/api/v1/query?{urlencode({'query': query})}")
        return next((one["value"][1] for one in answer["data"]["result"]), None)

    def points(self, query: str) -> int:
        """How many numbers a query gives over the run."""
        span = {"start": self.start, "end": time.time(), "step": STEP}
        address = f"{self.prometheus}/api/v1/query_range?"
        answer = ask(address + urlencode({"query": query, **span}))
        assert answer["status"] == "success", answer
        values = [v for one in answer["data"]["result"] for _, v in one["values"]]
        return sum(value not in {"NaN", "+Inf", "-Inf"} for value in values)


def configure(
    service: Service, directory: Path, webhook: str, ports: dict[str, int], manager: int
) -> None:
    """Write the configurations of Prometheus and Alertmanager."""
    often = f"{STEP * 1000:.0f}ms"
    intervals = ("scrape_interval", "scrape_timeout", "evaluation_interval")
    route = {"group_by": ["..."], "group_wait": "0s", "group_interval": "1s"}
    files: dict[str, Any] = {
        "prometheus.yml": {
            "global": {interval: often for interval in intervals},
            "rule_files": ["rules-*.yml"],
            "scrape_configs": [
                {
                    "job_name": job,
                    "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
                }
                for job, port in ports.items()
            ],
            "alerting": {
                "alertmanagers": [
                    {"static_configs": [{"targets": [f"127.0.0.1:{manager}"]}]}
                ]
            },
        },
        "alertmanager.yml": {
            "route": {"receiver": "webhook", **route},
            "receivers": [{"name": "webhook", "webhook_configs": [{"url": webhook}]}],
        },
    }
    for job in ports:
        rules = compressed_rules(service, job)
        for group in rules["groups"]:
            group["name"] += f" of {job}"
            for rule in group["rules"]:
                if job == BROKEN and rule.get("alert") == "NotReady":
                    rule["expr"] = rule["expr"].replace("== 0", "== 2")
        files[f"rules-{job}.yml"] = rules
    for name, content in files.items():
        (directory / name).write_text(yaml.safe_dump(content), encoding="utf-8")


@contextmanager
def play(service: Service, directory: Path) -> Iterator[Run]:
    """Play all scenes of a trained service at once; Prometheus runs in the block."""
    texts = read_texts(service, "data/train.parquet")
    jobs = [scene.__name__ for scene in SCENES]
    apps = {job: Application(service, directory / f"{job}.log") for job in jobs}
    ports = {job: app.port for job, app in apps.items()}
    ports[BROKEN] = ports["no_model"]
    prometheus, manager = free_port(), free_port()
    run = Run(f"http://127.0.0.1:{prometheus}")
    with ExitStack() as stack:
        webhook = stack.enter_context(receiver(run.messages))
        configure(service, directory, webhook, ports, manager)
        stack.enter_context(
            running(
                "prometheus",
                f"--config.file={directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={directory / 'series'}",
                f"--web.listen-address=127.0.0.1:{prometheus}",
                f"--query.lookback-delta={shorter('5m')}",
                "--rules.alert.resend-delay=1s",
                log=directory / "prometheus.log",
            )
        )
        stack.enter_context(
            running(
                shutil.which("alertmanager") or "prometheus-alertmanager",
                f"--config.file={directory / 'alertmanager.yml'}",
                f"--storage.path={directory / 'alerts'}",
                f"--web.listen-address=127.0.0.1:{manager}",
                "--cluster.listen-address=",
                log=directory / "alertmanager.log",
            )
        )
        for app in apps.values():
            stack.callback(app.kill)
        start_services(apps, directory)

        def all_are_watched() -> bool:
            # Until then there is a NoTarget for each job.
            alerts = ask(f"{run.prometheus}/api/v1/alerts")["data"]["alerts"]
            active = {alert["labels"]["alertname"] for alert in alerts}
            active |= {alert for _, alert in run.firing()}
            return run.up() == len(ports) and "NoTarget" not in active

        wait_until(all_are_watched, "Prometheus scrapes all services")
        run.messages[:] = [m for m in run.messages if m.alert != "NoTarget"]
        run.start = time.time()

        loads = {job: Load(ports[job], texts) for job in jobs}
        for load in loads.values():
            stack.callback(load.end)
        stages = [Stage(job, run, apps[job], loads[job]) for job in jobs]
        with ThreadPoolExecutor(len(SCENES)) as pool:
            played = [
                pool.submit(scene, stage)
                for scene, stage in zip(SCENES, stages, strict=True)
            ]
        run.faults = [str(one.exception()) for one in played if one.exception()]
        yield run


def start_services(apps: dict[str, Application], directory: Path) -> None:
    """Start each service as its scene wants it, and wait until they take traffic."""
    settings = {
        "no_model": {"MODEL_DIR": str(directory)},
        "overload": {"MAX_CONCURRENCY": "1", "INLINE_BUDGET_MS": "0"},
    }
    for job in ("little_traffic", "overload", "late_bodies", "no_model"):
        apps[job].start(**settings.get(job, {}))
    apps["crashes"].start(program=SUPERVISOR)
    for job in ("little_traffic", "overload", "late_bodies", "crashes"):
        apps[job].ready()

    small = apps["one_sentence"]
    if can_mount():
        disk = directory / "disk"
        disk.mkdir()
        memory = apps["little_traffic"].memory() * 1.05
        small.start(
            *(*OWN_MOUNTS, "sh", "-ec", SMALL_CONTAINER),
            TMPDIR=str(disk),
            MEMORY=f"{memory:.0f}",
        )
    else:
        small.start()
    small.ready()
