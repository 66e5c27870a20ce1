"""Plays the kubelet and the proxies: pods live, are probed and end as manifests say.

What a pod runs is the command of the image, here in the tests' own environment. What
Kubernetes promises is in `Pod`; clients that keep their connections are in `Load`.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from itertools import cycle

from app.examples import EXAMPLES

from serving.testing import ROOT
from tests.deploy.manifests import Image, Manifest, container, only, pod_spec

# How long after a pod began to end some proxy may still send it requests.
PROXY_LAG = 2.0


class Pod:
    """A pod of the Deployment, from its start to its end."""

    def __init__(self, manifests: list[Manifest], **settings: str) -> None:
        image = Image()
        self._container = container(manifests)
        self._grace = float(pod_spec(manifests)["terminationGracePeriodSeconds"])
        python, *arguments = image.command
        assert python.endswith("/bin/python")
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={
                **os.environ,
                **image.variables,
                **only(manifests, "ConfigMap")["data"],
                # Pods have addresses of their own; here they share one.
                "SERVICE_HOST": "127.0.0.1",
                "PORT": "0",
                **settings,
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        found = re.search(r"127\.0\.0\.1:(\d+)", self.process.stderr.readline())
        assert found, "the service did not say where it listens"
        self.port = int(found[1])
        # A pipe that nobody reads would stop the process when it is full.
        self._log = threading.Thread(target=self.process.stderr.read)
        self._log.start()
        self.ready = False
        self.restarts: list[str] = []  # the probes that would have restarted it
        self.probed = {"livenessProbe": 0, "readinessProbe": 0}
        self._ending = threading.Event()
        self._left = float("inf")
        threading.Thread(target=self._watch, daemon=True).start()

    def probe(self, name: str) -> tuple[bool, float]:
        """Ask as the named probe does: whether it passed, and the seconds it took."""
        probe = self._container[name]
        begin = time.monotonic()
        try:
            status = self.ask("GET", probe["httpGet"]["path"], probe["timeoutSeconds"])
        except OSError:
            status = 0
        return 200 <= status < 400, time.monotonic() - begin

    def ask(self, method: str, path: str, timeout: float, body: str = "") -> int:
        """Send one request on a connection of its own; returns the status."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=timeout)) as client:
            client.request(method, path, body, Load.HEADERS)
            answer = client.getresponse()
            answer.read()
            return answer.status

    @property
    def in_rotation(self) -> bool:
        """True while some proxy may send it requests."""
        return self.ready and time.monotonic() < self._left + PROXY_LAG

    def stop(self) -> float:
        """End it as Kubernetes does; returns the seconds that it took.

        Raises AssertionError if it has to be killed.
        """
        begin = time.monotonic()
        self._left = begin
        self._ending.set()
        time.sleep(self._container["lifecycle"]["preStop"]["sleep"]["seconds"])
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(begin + self._grace - time.monotonic())
        except subprocess.TimeoutExpired:
            raise AssertionError("it did not end within its grace period") from None
        return time.monotonic() - begin

    def kill(self) -> None:
        """Leave nothing behind."""
        self._ending.set()
        self.process.kill()
        self._log.join()
        self.process.communicate()

    def _watch(self) -> None:
        startup = self._container["startupProbe"]
        failures = 0
        while not self._ending.is_set() and not self.probe("startupProbe")[0]:
            failures += 1
            if failures == startup["failureThreshold"]:
                self.restarts.append("startupProbe")
            self._ending.wait(startup["periodSeconds"])
        for name in ("livenessProbe", "readinessProbe"):
            threading.Thread(target=self._repeat, args=(name,), daemon=True).start()

    def _repeat(self, name: str) -> None:
        failures = 0
        while not self._ending.is_set():
            passed, _ = self.probe(name)
            self.probed[name] += 1
            failures = 0 if passed else failures + 1
            failed = failures >= self._container[name]["failureThreshold"]
            if name == "livenessProbe" and failed:
                self.restarts.append(name)
            if name == "readinessProbe":
                self.ready = passed or (self.ready and not failed)
            self._ending.wait(self._container[name]["periodSeconds"])


class Load:
    """Clients that send at a steady rate; some keep their connections for ever.

    Proxies choose the pod of a connection, not of a request: what was opened stays with
    its pod until one side closes it.
    """

    BODY = json.dumps({"instances": EXAMPLES[:1]})
    HEADERS = {"Content-Type": "application/json"}
    PER_CONNECTION = (50, sys.maxsize)

    def __init__(self, pods: list[Pod], rate: int, clients: int = 8) -> None:
        self._pods = pods  # the caller may add to it
        self._interval = clients / rate
        self._stop = threading.Event()
        self._begin = time.monotonic()
        self.answers: dict[int, int] = {}  # by the process that gave them
        self.lost: list[str] = []
        self._threads = [
            threading.Thread(target=self._send, args=(limit,))
            for limit, _ in zip(
                cycle(self.PER_CONNECTION), range(clients), strict=False
            )
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> float:
        """End it; returns the requests a second that were answered."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return sum(self.answers.values()) / (time.monotonic() - self._begin)

    def _send(self, per_connection: int) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            pods = [pod for pod in self._pods if pod.in_rotation]
            if not pods:
                self.lost.append("no pod in rotation")
                self._stop.wait(self._interval)
                continue
            pod = random.choice(pods)
            with closing(HTTPConnection("127.0.0.1", pod.port, timeout=10)) as client:
                for _ in range(per_connection):
                    due += self._interval
                    if not self._request(client, pod):
                        break
                    if self._stop.wait(max(0.0, due - time.monotonic())):
                        return

    def _request(self, client: HTTPConnection, pod: Pod) -> bool:
        """One request; returns whether the connection may be used again."""
        try:
            client.request("POST", "/v1/predict", self.BODY, self.HEADERS)
            answer = client.getresponse()
            answer.read()
        except (OSError, HTTPException) as error:
            self.lost.append(repr(error))
            return False
        if answer.status != 200:
            self.lost.append(f"status {answer.status}")
        pid = pod.process.pid
        self.answers[pid] = self.answers.get(pid, 0) + 1
        return not answer.will_close
