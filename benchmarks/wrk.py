"""Load from wrk, on a core of its own: every connection asks again when answered."""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.serving import LOAD_CORE

SCRIPT = Path(__file__).with_name("wrk.lua")
TIMEOUT_SECONDS = 30

ERRORS = {
    "not_2xx": "answers with a status that is not 2xx",
    "connect": "connections refused",
    "read": "answers cut off",
    "write": "requests cut off",
    "timeout": f"answers not within {TIMEOUT_SECONDS} s",
}


class LoadError(Exception):
    """wrk is missing, or not every request was answered: no figure is to be had."""


@dataclass(frozen=True)
class Load:
    """What a server did: requests a second, and latencies in seconds."""

    rate: float
    p50: float
    p99: float


def installed() -> bool:
    """Return whether there is a wrk to run."""
    return shutil.which("wrk") is not None


def load(
    url: str,
    bodies: Sequence[str],
    connections: int,
    seconds: float,
    headers: Sequence[str] = (),
) -> Load:
    """Post the bodies (JSON, one line each) in turn for some seconds (at least one).

    Headers are lines such as `Name: value`. Raises LoadError if wrk is not installed or
    if a request was not answered with success: a rate with errors in it says nothing.
    """
    if not installed():
        raise LoadError("wrk is not installed: apt-get install wrk.")
    with TemporaryDirectory() as directory:
        lines = Path(directory) / "bodies"
        lines.write_text("".join(f"{body}\n" for body in bodies), encoding="utf-8")
        done = subprocess.run(
            [
                "wrk",
                "-t1",
                f"-c{connections}",
                f"-d{max(1, round(seconds))}s",
                f"--timeout={TIMEOUT_SECONDS}s",
                f"--script={SCRIPT}",
                url,
                "--",
                str(lines),
                *headers,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {LOAD_CORE}),
        )
    last = done.stdout.rstrip().rpartition("\n")[2]
    if done.returncode != 0 or not last.startswith("{"):
        raise LoadError(f"wrk ended with {done.returncode}:\n{done.stdout}")
    result = json.loads(last)
    errors = [
        f"{result[name]} {meaning}" for name, meaning in ERRORS.items() if result[name]
    ]
    if errors or not result["requests"]:
        raise LoadError(
            f"{url} at {connections} connections: {result['requests']} requests, "
            + (", ".join(errors) or "none answered")
        )
    rate = result["requests"] / result["seconds"]
    return Load(rate, result["p50"], result["p99"])
