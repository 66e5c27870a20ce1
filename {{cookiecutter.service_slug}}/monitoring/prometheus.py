"""The Prometheus that evidence is taken from: a deployed one, or a local one."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2

from monitoring.__main__ import ALERTS, SLUG
from serving import testing

SECONDS = 30.0  # of load on the local service, at 20 requests a second
PATIENCE = 60.0  # seconds for a program to become ready


class EvidenceError(Exception):
    """No evidence can be taken; the message says why and what to do."""


class QueryError(Exception):
    """Prometheus rejects a query; the message is its own."""


class Prometheus:
    """The HTTP API of a Prometheus; `address` is its URL without credentials.

    The URL may hold a path prefix, user and password. A bearer token replaces these
    two. Raises EvidenceError for a URL or token that cannot be used.
    """

    def __init__(self, url: str, token: str = "", *, local: bool = False) -> None:
        if not (token.isascii() and token.isprintable()):
            raise EvidenceError(
                "PROMETHEUS_TOKEN has characters that no token has: give it the token "
                "alone, in visible ASCII characters."
            )
        given = parse(url)
        bare = given.copy_with(userinfo=b"", query=None, fragment=None)
        user = (given.username, given.password) if given.username else None
        self.address, self.local = str(bare).rstrip("/"), local
        self._client = httpx2.Client(
            base_url=bare,
            auth=None if token else user,
            headers={"Authorization": f"Bearer {token}"} if token else None,
            trust_env=not local,  # no proxy leads to this machine
            timeout=60,
        )

    def ask(self, path: str, **parameters: str | float) -> Any:
        """Return the `data` of an answer of the API.

        Raises QueryError if Prometheus rejects the query, EvidenceError if it does not
        answer.
        """
        try:
            answer = self._client.get(f"api/v1/{path}", params=parameters)
        except httpx2.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise EvidenceError(f"{self.address} does not answer: {reason}") from None
        if answer.status_code in {401, 403}:
            raise EvidenceError(
                f"{self.address} answers {answer.status_code}: set user and password in"
                " PROMETHEUS_URL=https://user:password@…, or a token: PROMETHEUS_TOKEN."
            )
        try:
            body = answer.json()
            if body["status"] == "success":
                return body["data"]
            reason = " ".join(str(body["error"]).split())
        except (ValueError, TypeError, KeyError):
            raise EvidenceError(
                f"{self.address}/api/v1/{path} answers {answer.status_code}, and not as"
                " Prometheus does. PROMETHEUS_URL is the address in front of /api/v1."
            ) from None
        raise QueryError(reason)


def parse(url: str) -> httpx2.URL:
    """Return the URL of a Prometheus. Raises EvidenceError for anything else."""
    with suppress(httpx2.InvalidURL):  # its text may hold a part of the password
        given = httpx2.URL(url.strip())
        # An "@" outside of the credentials belongs to a password that is cut off.
        cut_off = "@" in str(given.copy_with(userinfo=b""))
        if given.scheme in {"http", "https"} and given.host and not cut_off:
            return given
    raise EvidenceError(
        "PROMETHEUS_URL is no address such as https://prometheus.example.com/prefix or "
        "https://user:password@example.com (percent-encode special characters)."
    )


@contextmanager
def local_prometheus() -> Iterator[Prometheus]:
    """Run the service and a Prometheus on free ports, with `SECONDS` of light load.

    Raises EvidenceError if a program is missing or does not become ready.
    """
    program = shutil.which("prometheus")
    if program is None:
        raise EvidenceError(
            "prometheus is missing: apt-get install prometheus, brew install "
            "prometheus, or https://prometheus.io/download. Or set PROMETHEUS_URL to "
            "the address of the Prometheus that watches the deployed service."
        )
    with ExitStack() as stack:
        try:
            service = stack.enter_context(testing.started()).url
        except (RuntimeError, TimeoutError) as error:
            raise EvidenceError(str(error)) from None
        url = stack.enter_context(running_prometheus(program, service))
        prometheus = Prometheus(url, local=True)
        deadline = time.monotonic() + PATIENCE  # the first scrape takes seconds
        while not prometheus.ask("query", query="up == 1")["result"]:
            if time.monotonic() > deadline:
                raise EvidenceError(f"Prometheus cannot scrape {service}/metrics.")
            time.sleep(0.2)
        send_load(service)
        yield prometheus


@contextmanager
def running_prometheus(program: str, service: str) -> Iterator[str]:
    """Run a Prometheus that scrapes a service, within the block; give its address.

    Raises EvidenceError, with the end of its output, if it does not become ready.
    """
    address = f"127.0.0.1:{free_port()}"
    target = {"targets": [service.removeprefix("http://")]}
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(ALERTS)],
        "scrape_configs": [{"job_name": SLUG, "static_configs": [target]}],
    }
    with TemporaryDirectory() as directory:
        file, log = Path(directory, "prometheus.yml"), Path(directory, "log")
        file.write_text(json.dumps(configuration), encoding="utf-8")  # JSON is YAML
        command = [program, f"--config.file={file}", f"--web.listen-address={address}"]
        command.append(f"--storage.tsdb.path={directory}/series")
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output)
        deadline = time.monotonic() + PATIENCE
        try:
            while not answers(f"http://{address}/-/ready"):
                if process.poll() is not None or time.monotonic() > deadline:
                    said = log.read_text(encoding="utf-8", errors="replace")[-2000:]
                    raise EvidenceError(f"{program} does not start:\n{said}")
                time.sleep(0.1)
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait()


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def answers(url: str) -> bool:
    """Return whether a URL on this machine answers 200."""
    with suppress(httpx2.TransportError):
        return httpx2.get(url, trust_env=False).status_code == 200
    return False


def send_load(url: str) -> None:
    """Send the example of the API's document for `SECONDS`.

    Raises EvidenceError if an answer is not 200.
    """
    with httpx2.Client(base_url=url, trust_env=False, timeout=20) as client:
        instance = testing.examples(url)[0]
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            answer = client.post("/v1/predict", json={"instances": [instance]})
            if answer.status_code != 200:
                raise EvidenceError(f"The service rejects its example: {answer.text}")
            time.sleep(1 / 20)
