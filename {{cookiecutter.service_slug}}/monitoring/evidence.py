"""`make evidence`: breaks the service and shows that its alerts fire.

The service, Prometheus, Alertmanager and a webhook that gets its messages run on this
machine. Time is compressed: each duration of the rules is divided by `FACTOR`, so that
an hour passes in half a minute. What was seen is written to docs/evidence.
"""

import csv
import json
import math
import os
import platform
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import yaml
from matplotlib.figure import Figure

from monitoring.__main__ import ALERTS, ROOT, Rule, load_rules, table

EVIDENCE = ROOT / "docs" / "evidence"
RUNBOOK = ROOT / "docs" / "runbook.md"
DASHBOARD = ROOT / "monitoring" / "dashboard.json"
TEXTS = ROOT / "data" / "train.csv"

FACTOR = 120
STEP = 0.25  # seconds between scrapes and between evaluations
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

CLIENTS = 40
USUAL_RATE = 80.0  # requests a second
PATIENCE = 60.0  # seconds to wait for what must come
LEGENDS = 8  # more lines than this have no legend

Point = tuple[float, float]
Values = npt.NDArray[np.float64]


class EvidenceError(Exception):
    """The run cannot start; the message says what is missing and how to get it."""


# What the run looks at: rules, runbook and dashboard.


def compressed(expression: str) -> str:
    """The expression with each range and offset divided by `FACTOR`."""
    return re.sub(
        r"(\[|offset )(\d+[smhdw])", lambda m: m[1] + shorter(m[2]), expression
    )


def shorter(duration: str) -> str:
    """A duration of Prometheus, such as 5m, divided by `FACTOR`."""
    milliseconds = int(duration[:-1]) * UNITS[duration[-1]] * 1000 // FACTOR
    return f"{milliseconds}ms"


def compressed_rules() -> Any:
    """alerts.yaml with every duration divided by `FACTOR`."""
    document = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))
    for group in document["groups"]:
        for rule in group["rules"]:
            rule["expr"] = compressed(rule["expr"])
            if "for" in rule:
                rule["for"] = shorter(rule["for"])
    return document


def runbook_queries() -> dict[str, str]:
    """The query that confirms an alert, for each entry of the runbook."""
    entries = re.split(r"^## ", RUNBOOK.read_text(encoding="utf-8"), flags=re.M)[1:]
    return {
        entry.partition("\n")[0]: query
        for entry in entries
        for query in re.findall(r"```promql\n(.*?)\n```", entry, re.S)
    }


def panels() -> list[dict[str, Any]]:
    """The panels of the dashboard, in their order, without the headings of rows."""
    document = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return [panel for panel in document["panels"] if panel["type"] != "row"]


# What runs.


def find(*names: str) -> str:
    """The path of a program. Raises EvidenceError if none of the names is installed."""
    for name in names:
        if path := shutil.which(name):
            return path
    raise EvidenceError(
        f"{names[0]} is missing. Debian and Ubuntu have it: apt-get install prometheus "
        "prometheus-alertmanager. Elsewhere: https://prometheus.io/download"
    )


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


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Whether something came true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(OSError, ValueError):
            if condition():
                return True
        time.sleep(0.1)
    return False


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


@dataclass
class Message:
    """An alert as it arrived at the webhook."""

    alert: str
    status: str
    description: str
    time: float


@contextmanager
def receiver(messages: list[Message]) -> Iterator[int]:
    """A webhook that keeps what Alertmanager sends; gives its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            for alert in body["alerts"]:
                name = alert["labels"]["alertname"]
                text = alert["annotations"]["description"]
                messages.append(Message(name, alert["status"], text, time.time()))
                print(f"         {alert['status']}: {name}", flush=True)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


class Application:
    """`python -m app` on one port, to be ended and started at will."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = directory / "service.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *before: str, **settings: str) -> None:
        """Start it with these settings, after the words of a command before its own."""
        self.end(signal.SIGTERM)
        place = {"HOST": "127.0.0.1", "PORT": str(self.port)}
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [*before, sys.executable, "-m", "app"],
                cwd=ROOT,
                env={**os.environ, **place, **settings},
                stdout=output,
                stderr=output,
            )
        with suppress(AttributeError):  # not on macOS
            # One CPU is soon used up, and the others are left for the rest.
            cpu = min(os.sched_getaffinity(0))
            os.sched_setaffinity(self._process.pid, {cpu})

    def ready(self) -> None:
        """Wait until it takes traffic. Raises EvidenceError if it does not."""
        if not wait_until(lambda: ask(f"{self.url}/readyz")["status"] == "ready"):
            said = self._log.read_text(encoding="utf-8")[-2000:]
            raise EvidenceError(f"The service does not become ready:\n{said}")

    def end(self, how: signal.Signals) -> None:
        """End it, if it runs."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None


class Load:
    """Clients that send predictions at a rate, whatever becomes of the answers."""

    def __init__(self, port: int) -> None:
        try:
            with TEXTS.open(encoding="utf-8", newline="") as file:
                self._texts = [row["text"] for row in csv.DictReader(file)]
        except OSError as error:
            raise EvidenceError(
                f"{TEXTS.relative_to(ROOT)} cannot be read ({error.strerror}). "
                "Make it (make train) or fetch it (make pull)."
            ) from None
        self._port = port
        self.usual()

    def usual(self, rate: float = USUAL_RATE) -> None:
        """Sentences as in training, one in a request."""
        self.rate = rate
        self.pause = 0.0
        self.body: Callable[[], bytes] = lambda: encoded([random.choice(self._texts)])

    def late(self) -> None:
        """Bodies that come half a second after their headers."""
        self.pause = 0.5

    def same(self) -> None:
        """The same sentence, again and again."""
        body = encoded([self._texts[0]] * 100)
        self.body = lambda: body

    def large(self) -> None:
        """Large batches, as many as the clients can send."""
        body = encoded(random.choices(self._texts, k=500))
        self.rate = math.inf
        self.body = lambda: body

    def start(self) -> None:
        """Let the clients go."""
        for _ in range(CLIENTS):
            threading.Thread(target=self._send_on, daemon=True).start()

    def _send_on(self) -> None:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=20)
        while True:
            if self.rate == 0:
                time.sleep(STEP)
                continue
            time.sleep(random.uniform(0.5, 1.5) * CLIENTS / self.rate)
            body = self.body()
            try:
                connection.putrequest("POST", "/v1/predict")
                connection.putheader("Content-Type", "application/json")
                connection.putheader("Content-Length", str(len(body)))
                connection.endheaders()
                time.sleep(self.pause)
                connection.send(body)
                connection.getresponse().read()
            except (OSError, HTTPException):
                connection.close()


def encoded(texts: list[str]) -> bytes:
    """The body of a request for predictions."""
    return json.dumps({"instances": [{"text": text} for text in texts]}).encode()


@contextmanager
def stuck_request(port: int) -> Iterator[None]:
    """A client that begins a body and never ends it, and comes back when cut off."""
    over = threading.Event()
    head = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{"

    def hold() -> None:
        while not over.is_set():
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as s:
                s.sendall(head.encode())
                s.settimeout(1)
                while not over.is_set():
                    with suppress(TimeoutError):
                        s.recv(4096)  # an answer, or the end: begin again
                        break
            time.sleep(0.05)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


# What is done to the service.


@dataclass
class Scene:
    """One way to break the service, and the alerts that it must set off."""

    title: str
    alerts: list[str]
    start: float = field(default_factory=time.time)
    remark: str = ""
    failed: bool = False


class Run:
    """The scenes of a run, one method each, and what was seen in them."""

    def __init__(self, directory: Path, prometheus: str) -> None:
        self.application = Application(directory)
        self.messages: list[Message] = []
        self.scenes: list[Scene] = []
        self.model: dict[str, str] = {}
        self.start = time.time()
        self.end: float | None = None  # while it is played
        self._directory = directory
        self._load = Load(self.application.port)
        self._prometheus = prometheus

    def play(self) -> None:
        """All scenes, one after the other."""
        # Prometheus takes a while to find its first target, and says so.
        wait_until(lambda: self._finds_the_service() and not self._firing())
        self.messages.clear()
        self.start = time.time()
        self.all_is_well()
        self.little_traffic()
        self.no_traffic()
        self.overload()
        self.late_bodies()
        self.one_label()
        self.large_batches()
        self.crashes()
        self.no_model()
        self.small_container()
        self.killed()
        self.recovery()
        self.end = time.time()

    def all_is_well(self) -> None:
        scene = self._begin("All is well: sentences as in training, for 1.5 hours")
        self.model = ask(f"{self.application.url}/v1/model")
        self._load.start()
        time.sleep(5400 / FACTOR)
        early = {message.alert for message in self.messages}
        if early:
            scene.remark = f"fired without a reason: {', '.join(sorted(early))}"
            scene.failed = True
        self._memory = self.largest("process_resident_memory_bytes")

    def little_traffic(self) -> None:
        scene = self._begin("A tenth of the traffic", "ThroughputDrops")
        self._load.usual(USUAL_RATE / 10)
        self._await(scene)

    def no_traffic(self) -> None:
        scene = self._begin("No traffic at all", "NoTraffic")
        self._load.rate = 0
        self._await(scene)
        self._load.usual()

    def overload(self) -> None:
        scene = self._begin(
            "MAX_CONCURRENCY=1 and a client whose body does not arrive: 503 for all",
            *("AvailabilityBurnsFast", "AvailabilityBurns", "AvailabilityBurnsSlowly"),
        )
        self.application.start(MAX_CONCURRENCY="1")
        with stuck_request(self.application.port):
            self._await(scene)

    def late_bodies(self) -> None:
        scene = self._begin(
            "Every body comes half a second after its headers",
            *("LatencyBurnsFast", "LatencyBurnsSlowly"),
        )
        self.application.start()
        self._load.late()
        self._await(scene)
        self._load.usual()

    def one_label(self) -> None:
        scene = self._begin("Everybody says the same sentence", "LabelDrift")
        self._load.same()
        self._await(scene)
        self._load.usual()

    def large_batches(self) -> None:
        scene = self._begin(
            "Batches of 500 sentences, as many as it can take, on one CPU",
            "CpuSaturated",
        )
        self._load.large()
        self._await(scene)
        self._load.usual()

    def crashes(self) -> None:
        scene = self._begin("SIGKILL and a new start, four times", "RestartsOften")
        for _ in range(4):
            self.application.ready()
            time.sleep(4 * STEP)
            self.application.end(signal.SIGKILL)
            self.application.start()
        self._await(scene)

    def no_model(self) -> None:
        scene = self._begin(
            "A new start without a model", "NotReady", "InstanceNotReady"
        )
        self.application.start(MODEL_DIR=str(self._directory))
        self._await(scene)

    def small_container(self) -> None:
        """Memory and disk of its own, both too small, by a Linux mount namespace."""
        scene = self._begin(
            "A container with too little memory and a full disk",
            *("MemoryNearLimit", "DiskNearlyFull"),
        )
        own_mounts = ["unshare", "--map-root-user", "--mount"]
        trial = [*own_mounts, "mount", "-t", "tmpfs", "tmpfs", "/sys/fs/cgroup"]
        if not (shutil.which("unshare") and subprocess.run(trial).returncode == 0):
            scene.remark = "not played: this machine gives no mounts of one's own"
            scene.alerts = []
            return
        disk = self._directory / "disk"
        disk.mkdir()
        mount = (
            'mount -t tmpfs -o size=10m tmpfs "$TMPDIR"'
            ' && head -c 9500000 /dev/zero > "$TMPDIR/full"'
            " && mount -t tmpfs tmpfs /sys/fs/cgroup"
            f" && echo {self._memory * 1.05:.0f} > /sys/fs/cgroup/memory.max"
            ' && exec "$0" "$@"'
        )
        self.application.start(*own_mounts, "sh", "-c", mount, TMPDIR=str(disk))
        self._await(scene)

    def killed(self) -> None:
        scene = self._begin("SIGKILL, and no new start", "NoTarget")
        self.application.end(signal.SIGKILL)
        self._await(scene)

    def recovery(self) -> None:
        self._begin("All is well again")
        self.application.start()
        self.application.ready()
        time.sleep(2700 / FACTOR)

    def series(self, expression: str) -> dict[str, list[Point]]:
        """The value of each series over the run, by its labels."""
        query = {
            "query": expression,
            "start": self.start,
            "end": self.end or time.time(),
        }
        address = f"{self._prometheus}/api/v1/query_range?"
        answer = ask(address + urlencode({**query, "step": STEP}))
        if answer["status"] != "success":
            raise EvidenceError(f"{expression}: {answer['error']}")
        return {
            json.dumps(found["metric"]): [(t, float(v)) for t, v in found["values"]]
            for found in answer["data"]["result"]
        }

    def largest(self, expression: str) -> float:
        """The largest value of an expression up to now."""
        series = self.series(expression).values()
        return max((v for points in series for _, v in points), default=math.nan)

    def _finds_the_service(self) -> bool:
        targets = ask(f"{self._prometheus}/api/v1/targets")["data"]["activeTargets"]
        alerts = ask(f"{self._prometheus}/api/v1/alerts")["data"]["alerts"]
        return bool(targets) and not alerts

    def _firing(self) -> set[str]:
        last = {message.alert: message.status for message in self.messages}
        return {alert for alert, status in last.items() if status == "firing"}

    def _begin(self, title: str, *alerts: str) -> Scene:
        scene = Scene(title, list(alerts))
        self.scenes.append(scene)
        print(f"[{scene.start - self.start:4.0f} s] {title}", flush=True)
        return scene

    def _await(self, scene: Scene) -> None:
        def delivered() -> bool:
            recent = [m for m in self.messages if m.time >= scene.start]
            return set(scene.alerts) <= {
                m.alert for m in recent if m.status == "firing"
            }

        if not wait_until(delivered):
            scene.remark = "not all alerts came"
            scene.failed = True


# What is written down.


def since(start: float, moment: float) -> str:
    """A moment of the run as minutes and seconds."""
    seconds = round(moment - start)
    return f"{seconds // 60}:{seconds % 60:02}"


def states(run: Run) -> dict[str, dict[str, list[float]]]:
    """When each alert was pending and when it was firing."""
    found: dict[str, dict[str, list[float]]] = {}
    for labels, points in run.series("ALERTS").items():
        metric = json.loads(labels)
        moments = found.setdefault(metric["alertname"], {"pending": [], "firing": []})
        moments[metric["alertstate"]] += [moment for moment, _ in points]
    return found


def alert_row(run: Run, rule: Rule, seen: dict[str, list[float]]) -> list[str]:
    """What became of an alert in its scene and after it, for the table."""
    name, severity = rule["alert"], rule["labels"]["severity"]
    scene = next((scene for scene in run.scenes if name in scene.alerts), None)
    if scene is None:
        return [name, severity, "nothing in this run", *["-"] * 5]

    came = [m for m in run.messages if m.alert == name and m.time >= scene.start]
    sent = {message.status: message.time for message in reversed(came)}
    moments = [
        min((m for m in seen["pending"] if m >= scene.start), default=None),
        min((m for m in seen["firing"] if m >= scene.start), default=None),
        sent.get("firing"),
        sent.get("resolved"),
    ]
    times = ["-" if m is None else since(run.start, m) for m in moments]
    text = came[0].description if came else "-"
    return [name, severity, scene.title, *times, text]


def draw_alerts(run: Run, seen: dict[str, dict[str, list[float]]]) -> Figure:
    """A line for each alert: light while it was pending, dark while it fired."""
    names = [rule["alert"] for rule in load_rules() if "alert" in rule]
    figure, axes = plt.subplots(figsize=(10, 1 + 0.3 * len(names)))
    for line, name in enumerate(names):
        for state, colour in (("pending", "orange"), ("firing", "firebrick")):
            moments = seen.get(name, {}).get(state, [])
            bars = [(moment - run.start, STEP) for moment in moments]
            axes.broken_barh(bars, (line - 0.35, 0.7), color=colour)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    return finished(run, figure)


def draw_panel(run: Run, panel: dict[str, Any]) -> tuple[Figure, bool]:
    """A panel of the dashboard, and whether there was anything to draw."""
    figure, axes = plt.subplots(figsize=(8, 4))
    drawn = False
    for target in panel["targets"]:
        for labels, points in run.series(compressed(target["expr"])).items():
            legend = target["legendFormat"]
            if legend == "__auto":
                legend = " ".join(json.loads(labels).values()) or panel["title"]
            times, values = with_gaps(points)
            axes.plot(times - run.start, values, label=legend, linewidth=1)
            drawn = drawn or bool(np.isfinite(values).any())
    axes.set_title(panel["title"])
    axes.set_ylabel(panel["fieldConfig"]["defaults"]["unit"])
    axes.set_ylim(bottom=0)
    if len(axes.get_lines()) <= LEGENDS:
        axes.legend(fontsize="small")
    return finished(run, figure), drawn


def with_gaps(points: list[Point]) -> tuple[Values, Values]:
    """Times and values, with a NaN wherever the series was not there for a while."""
    times, values = np.array(points).T
    ends = np.flatnonzero(np.diff(times) > 2 * STEP) + 1
    return np.insert(times, ends, times[ends - 1]), np.insert(values, ends, math.nan)


def finished(run: Run, figure: Figure) -> Figure:
    """The figure with the beginning of each scene and the time below."""
    (axes,) = figure.axes
    for scene in run.scenes:
        axes.axvline(scene.start - run.start, color="grey", linewidth=0.5)
    axes.set_xlim(0, (run.end or time.time()) - run.start)
    axes.set_xlabel("seconds of the run; a vertical line begins a scene")
    return figure


def save(figure: Figure, name: str) -> str:
    """Write a picture; gives the Markdown that shows it."""
    file = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") + ".png"
    figure.savefig(EVIDENCE / file, dpi=80, bbox_inches="tight")
    plt.close(figure)
    return f"![{name}]({file})\n"


def write(run: Run, versions: list[list[str]]) -> list[str]:
    """Write docs/evidence; gives what should have been seen and was not."""
    shutil.rmtree(EVIDENCE, ignore_errors=True)
    EVIDENCE.mkdir(parents=True)
    faults = [f"{scene.title}: {scene.remark}" for scene in run.scenes if scene.failed]

    seen = states(run)
    nothing: dict[str, list[float]] = {"pending": [], "firing": []}
    alerts = [rule for rule in load_rules() if "alert" in rule]
    rows = [alert_row(run, rule, seen.get(rule["alert"], nothing)) for rule in alerts]

    fired = [
        rule["alert"] for rule in alerts if seen.get(rule["alert"], nothing)["firing"]
    ]
    queries = []
    for name, query in runbook_queries().items():
        points = sum(map(len, run.series(compressed(query)).values()))
        queries.append([name, f"`{' '.join(query.split())}`", str(points)])
        if points == 0:
            faults.append(f"The runbook's query for {name} gives nothing.")

    pictures = []
    for panel in panels():
        figure, drawn = draw_panel(run, panel)
        pictures.append(save(figure, panel["title"]))
        if not drawn:
            faults.append(f"The panel {panel['title']} is empty.")

    head = ["Alert", "Severity", "Set off by", "Pending", "Firing"]
    parts = [
        "# Evidence that the monitoring works\n",
        "`make evidence` wrote this: the service was broken on purpose, and a real "
        "Prometheus and Alertmanager watched it.\n",
        table(["What", "Which"], versions),
        f"**Time is compressed.** Every duration in the rules, the runbook and the "
        f"dashboard was divided by {FACTOR}: one hour is {3600 / FACTOR:g} s here. "
        "Thresholds and expressions are those of monitoring/alerts.yaml. Windows that "
        "are longer than the run saw the run only. At their real length the rules are "
        "tested by `make test-alerts`.\n",
        "## Alerts\n",
        "Minutes and seconds since the beginning; messages are what a webhook got from "
        "Alertmanager.\n",
        save(draw_alerts(run, seen), "Alerts"),
        table([*head, "Message", "All-clear", "What it said"], rows),
        f"{len(fired)} of {len(alerts)} alerts were seen to fire in this run; the unit "
        "tests show all of them.\n",
        "## What was done\n",
        table(
            ["At", "Scene", "Remark"],
            [[since(run.start, s.start), s.title, s.remark] for s in run.scenes],
        ),
        "## Queries of the runbook\n",
        table(["Alert", "Query", "Values in this run"], queries),
        "## Panels of the dashboard\n",
        *pictures,
    ]
    text = "\n".join(part.rstrip("\n") + "\n" for part in parts)
    (EVIDENCE / "README.md").write_text(text, encoding="utf-8")
    return faults


def configure(directory: Path, webhook: int, application: int, manager: int) -> None:
    """Write the configurations of Prometheus and Alertmanager."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    often = f"{STEP * 1000:.0f}ms"
    files: dict[str, Any] = {
        "prometheus.yml": {
            "global": {
                "scrape_interval": often,
                "scrape_timeout": often,
                "evaluation_interval": often,
            },
            "rule_files": ["rules.yml"],
            "scrape_configs": [
                {
                    "job_name": project["project"]["name"],
                    "static_configs": [{"targets": [f"127.0.0.1:{application}"]}],
                }
            ],
            "alerting": {
                "alertmanagers": [
                    {"static_configs": [{"targets": [f"127.0.0.1:{manager}"]}]}
                ]
            },
        },
        "alertmanager.yml": {
            "route": {
                "receiver": "webhook",
                "group_by": ["..."],
                "group_wait": "0s",
                "group_interval": "1s",
            },
            "receivers": [
                {
                    "name": "webhook",
                    "webhook_configs": [{"url": f"http://127.0.0.1:{webhook}"}],
                }
            ],
        },
        "rules.yml": compressed_rules(),
    }
    for name, content in files.items():
        (directory / name).write_text(yaml.safe_dump(content), encoding="utf-8")


def revision() -> str:
    """The commit that is checked out, with "-dirty" if files were edited since."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def record(directory: Path) -> list[str]:
    """Play all scenes in a directory for what is passing; write what was seen.

    Returns what should have been seen and was not. Raises EvidenceError if a program
    is missing or does not start.
    """
    prometheus = find("prometheus")
    alertmanager = find("alertmanager", "prometheus-alertmanager")
    ports = free_port(), free_port()
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    run = Run(directory, urls[0])
    print("Starting the service, Prometheus and Alertmanager", flush=True)
    with receiver(run.messages) as webhook:
        configure(directory, webhook, run.application.port, ports[1])
        watch = running(
            prometheus,
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'series'}",
            f"--web.listen-address=127.0.0.1:{ports[0]}",
            f"--query.lookback-delta={shorter('5m')}",
            "--rules.alert.resend-delay=1s",
            log=directory / "prometheus.log",
        )
        tell = running(
            alertmanager,
            f"--config.file={directory / 'alertmanager.yml'}",
            f"--storage.path={directory / 'alerts'}",
            f"--web.listen-address=127.0.0.1:{ports[1]}",
            "--cluster.listen-address=",
            log=directory / "alertmanager.log",
        )
        run.application.start()
        try:
            run.application.ready()
            with tell, watch:
                versions = start_up(urls, directory)
                run.play()
                return write(run, [*about(run), *versions])
        finally:
            run.application.end(signal.SIGKILL)


def start_up(urls: list[str], directory: Path) -> list[list[str]]:
    """Wait for Prometheus and Alertmanager; gives their versions.

    Raises EvidenceError, with their own words, if one does not answer.
    """
    versions: list[list[str]] = []

    def answered() -> bool:
        build = ask(f"{urls[0]}/api/v1/status/buildinfo")["data"]
        status = ask(f"{urls[1]}/api/v2/status")["versionInfo"]
        versions[:] = [
            ["Prometheus", build["version"]],
            ["Alertmanager", status["version"]],
        ]
        return True

    if not wait_until(answered):
        logs = sorted(directory.glob("*.log"))
        said = "".join(log.read_text(encoding="utf-8")[-2000:] for log in logs)
        raise EvidenceError(f"Prometheus or Alertmanager does not start:\n{said}")
    return versions


def about(run: Run) -> list[list[str]]:
    """What was looked at, and when."""
    return [
        ["Date", datetime.fromtimestamp(run.start, UTC).isoformat(" ", "minutes")],
        ["Git revision", revision()],
        ["Model", f"{run.model['version']}, trained at {run.model['trained_at']}"],
        ["Python", platform.python_version()],
    ]


def main() -> int:
    """Returns the exit code."""
    plt.switch_backend("agg")
    try:
        with TemporaryDirectory() as directory:
            faults = record(Path(directory))
    except EvidenceError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"See {EVIDENCE.relative_to(ROOT)}/README.md", flush=True)
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
