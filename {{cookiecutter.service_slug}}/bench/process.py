"""Start the service on a CPU of its own, and read what it uses of the machine."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from bench import ROOT, BenchError

START_SECONDS = 30.0
LISTENS = re.compile(rb"Listening on http://\S+:(\d+)")


@dataclass(frozen=True)
class Process:
    """A service that is ready."""

    port: int
    pid: int
    seconds_to_ready: float
    cpus: int  # of which the service has one

    def get(self, path: str) -> Any:
        """Return the JSON document at a path. Raises OSError."""
        with urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return json.load(answer)

    def cpu_seconds(self) -> float:
        """Return the CPU time used since the start."""
        fields = self._read("stat").rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

    def memory(self, name: str) -> int:
        """Return memory in bytes: what is resident (VmRSS), or was at most (VmHWM)."""
        (kilobytes,) = re.findall(rf"{name}:\s+(\d+) kB", self._read("status"))
        return int(kilobytes) * 1024

    def _read(self, name: str) -> str:
        try:
            return Path(f"/proc/{self.pid}/{name}").read_text()
        except OSError:
            raise BenchError("The service has ended while it was measured.") from None


@contextmanager
def started(settings: Mapping[str, str]) -> Iterator[Process]:
    """Run `python -m app` with these settings on a free port until the block ends.

    It has the first CPU for itself; this process keeps to the last one meanwhile.
    Raises BenchError, with its log, if it does not get ready, or if there is no /proc.
    """
    if not Path("/proc/self/stat").exists():
        raise BenchError(
            "CPU and memory are read from /proc, which only Linux has: run this on "
            "Linux or in a container."
        )
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})  # which the service inherits
    process = subprocess.Popen(
        [sys.executable, "-m", "app"],
        cwd=ROOT,
        env={**os.environ, **settings, "SERVICE_HOST": "127.0.0.1", "PORT": "0"},
        stderr=subprocess.PIPE,
    )
    os.sched_setaffinity(0, {max(cpus)})
    try:
        yield _wait_until_ready(process, len(cpus))
    finally:
        process.terminate()
        process.wait()
        os.sched_setaffinity(0, cpus)


def _wait_until_ready(process: subprocess.Popen[bytes], cpus: int) -> Process:
    start = time.perf_counter()
    assert process.stderr is not None
    log = deque([process.stderr.readline()], maxlen=20)
    listens = LISTENS.search(log[0])
    # The log is read on, as a container's is: a full pipe would stop the service.
    threading.Thread(target=log.extend, args=(process.stderr,), daemon=True).start()
    while listens and process.poll() is None:
        seconds = time.perf_counter() - start
        service = Process(int(listens[1]), process.pid, seconds, cpus)
        try:
            service.get("/readyz")
            return service
        except OSError:  # the model is still being loaded
            if seconds > START_SECONDS:
                break
        time.sleep(0.01)
    said = b"".join(log).decode(errors="replace")
    raise BenchError(f"The service does not get ready. It said:\n{said}")
