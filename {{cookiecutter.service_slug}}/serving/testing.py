"""Start the service as a process and wait until it is ready, for tests and tools.

`python -m serving.testing COMMAND …` starts a service, runs the command with its
address in the variable `URL`, and stops the service.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

ROOT = Path(__file__).parent.parent
SERVICE = (sys.executable, "-m", "app")
START_SECONDS = 30.0


class ServiceProcess:
    """A service on a free port of this machine that logs to a file.

    `settings` are environment variables. Raises RuntimeError, with the log, if the
    process ends before it listens.
    """

    def __init__(
        self, log: Path, command: Sequence[str] = SERVICE, **settings: str
    ) -> None:
        self._log = log
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={
                    **os.environ,
                    "SERVICE_HOST": "127.0.0.1",
                    "PORT": "0",
                    **settings,
                },
                stderr=stderr,
            )
        try:
            self.url = self._wait_for_address()
        except BaseException:
            self.end()
            raise

    def log(self) -> str:
        """Return what the process has written to stderr so far."""
        return self._log.read_text(encoding="utf-8")

    def _wait_for_address(self) -> str:
        found = re.compile(r"Listening on (\S+) ")
        wait_until(lambda: bool(found.search(self.log())) or self.has_ended())
        match = found.search(self.log())
        if match is None:
            raise RuntimeError(f"The service did not start:\n{self.log()}")
        return match[1]

    def has_ended(self) -> bool:
        """Return whether the process has ended."""
        return self.process.poll() is not None

    def wait_until_ready(self, seconds: float = START_SECONDS) -> "ServiceProcess":
        """Wait for readiness. Raises RuntimeError, with the reason, on a timeout."""
        wait_until_ready(self.url, seconds)
        return self

    def terminate(self) -> None:
        """Send SIGTERM, as Kubernetes does."""
        self.process.send_signal(signal.SIGTERM)

    def end(self) -> None:
        """Kill the process and release its resources."""
        self.process.kill()
        self.process.communicate()


@contextmanager
def started(**settings: str) -> Iterator[ServiceProcess]:
    """Start a service, wait until it is ready, and kill it at the end.

    with started(LOG_LEVEL="error") as service:
        urlopen(f"{service.url}/v1/model")
    """
    with tempfile.TemporaryDirectory() as directory:
        service = ServiceProcess(Path(directory, "log"), SERVICE, **settings)
        try:
            yield service.wait_until_ready()
        finally:
            service.end()


def wait_until_ready(url: str, seconds: float = START_SECONDS) -> None:
    """Poll /readyz. Raises RuntimeError, with the last answer, on a timeout."""
    answer = ""

    def is_ready() -> bool:
        nonlocal answer
        try:
            with urlopen(f"{url}/readyz", timeout=5):
                return True
        except HTTPError as error:
            answer = error.read().decode()
        except (URLError, OSError) as error:
            answer = str(error)
        return False

    try:
        wait_until(is_ready, seconds)
    except TimeoutError:
        raise RuntimeError(f"{url} does not become ready: {answer}") from None


def wait_until(condition: Callable[[], bool], seconds: float = START_SECONDS) -> None:
    """Poll a condition until it is true. Raises TimeoutError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"The condition did not become true within {seconds:.0f} s."
            )
        time.sleep(0.02)


def examples(url: str) -> list[dict[str, Any]]:
    """Return the sample instances of a service's OpenAPI document."""
    with urlopen(f"{url}/openapi.json", timeout=10) as response:
        schemas = json.load(response)["components"]["schemas"]
    found: list[dict[str, Any]] = schemas["Instance"]["examples"]
    return found


def main(command: list[str]) -> int:
    """Run a command while a service runs, and return its exit code."""
    try:
        with started(LOG_LEVEL="error") as service:
            print(f"The service is ready at {service.url}.", flush=True)
            return subprocess.run(
                command, env={**os.environ, "URL": service.url}
            ).returncode
    except (RuntimeError, TimeoutError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
