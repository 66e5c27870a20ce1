"""What it costs the service to be watched: metrics, log lines and request ids."""

import os
import re
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.conftest import ENVIRONMENT, Service, copy

pytestmark = [pytest.mark.slow, pytest.mark.benchmark]

ROUNDS = 15
CONNECTIONS = "32"

WATCHED = "import sys; from app.server import run; sys.exit(run())"
# The same service, put together without what watches it. FastAPI's hooks for telemetry,
# which app.traces turns off, are then as FastAPI has them.
BARE = """
from app import main, metrics
main.Watch = lambda app, *_: app
main.traces.telemetry = lambda *_: None
metrics.Metrics.timed = lambda self, predict: predict
metrics.Metrics.predicted = lambda self, label, score: None
""" + WATCHED

REQUEST = """
wrk.method = "POST"
wrk.body = '{"instances": [{"text": "turn on the lights in the kitchen"}]}'
wrk.headers["Content-Type"] = "application/json"
"""


@contextmanager
def serving(service: Service, code: str, log: Path) -> Iterator[str]:
    """Serve with a few lines of Python instead of `python -m app`; gives the URL."""
    python = str(service.path / ".venv" / "bin" / "python")
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [python, "-c", code],
            cwd=service.path,
            env=ENVIRONMENT | {"PORT": "0", "MODEL_DIR": "outputs/debug/models"},
            stderr=stderr,
        )
    try:
        yield ready(log)
    finally:
        process.terminate()
        process.wait(timeout=30)


def ready(log: Path) -> str:
    """The URL of a service, from its log, once it answers that it is ready."""
    for _ in range(300):
        time.sleep(0.1)
        if match := re.search(r"Listening on (\S+)", log.read_text(encoding="utf-8")):
            try:
                urlopen(f"{match[1]}/readyz", timeout=5).close()
                return match[1]
            except OSError:
                continue
    pytest.fail(f"it does not become ready: {log.read_text(encoding='utf-8')}")


def requests_per_second(url: str, script: Path, seconds: int) -> float:
    """How many predictions it answers, all of them with 200."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(script)]
    output = subprocess.run(
        [*command, f"{url}/v1/predict"], capture_output=True, text=True, check=True
    ).stdout
    assert "Non-2xx" not in output and "Socket errors" not in output, output
    match = re.search(r"Requests/sec: +([\d.]+)", output)
    assert match, output
    return float(match[1])


@pytest.mark.skipif(
    not shutil.which("wrk"), reason="wrk is not installed: apt-get install wrk"
)
def test_what_it_costs_to_be_watched(default: Service, tmp_path: Path) -> None:
    """Prints the request rate as a ratio; the rounds alternate, as machines drift."""
    service = copy(default, tmp_path)
    service.run("python", "-m", "training", "experiment=debug")
    script = tmp_path / "request.lua"
    script.write_text(REQUEST, encoding="utf-8")

    ratios = []
    with (
        serving(service, BARE, tmp_path / "bare.log") as bare,
        serving(service, WATCHED, tmp_path / "watched.log") as watched,
    ):
        for url in (bare, watched):
            requests_per_second(url, script, 2)
        for turn in range(ROUNDS):
            rates = {}
            for url in (bare, watched) if turn % 2 else (watched, bare):
                rates[url] = requests_per_second(url, script, 2)
            ratios.append(rates[watched] / rates[bare])

    low, middle, high = statistics.quantiles(ratios, n=4)
    print(
        f"request rate, watched to bare: {middle:.3f} "
        f"(quartiles of {ROUNDS} rounds: {low:.3f} to {high:.3f}; "
        f"{rates[watched]:.0f} to {rates[bare]:.0f} a second, {os.cpu_count()} CPUs)"
    )
