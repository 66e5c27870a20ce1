"""A server on a CPU of its own, and what it takes of the machine."""

import math
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).parent.parent
PROC = Path("/proc")
START_TIMEOUT = 60.0
KEPT = 10_000  # bytes of what a server says first
T = TypeVar("T")
LISTENS = re.compile(rb"Listening on http://\S+:(\d+)")


class BenchError(Exception):
    """It cannot be measured; the message says why and what to do."""


class Server:
    """A server that answers predictions. Make it with `serving`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.port = 0
        self.seconds_to_ready = 0.0
        self._said = b""
        self._process = process
        # Its log is read on, as a container's is, or it would wait for the reader.
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        while some := os.read(self._process.stderr.fileno(), 65_536):
            if len(self._said) < KEPT:
                self._said += some

    def wait(self, body: bytes) -> None:
        """Wait until it predicts. Raises BenchError, with its own words, if not."""
        start = time.perf_counter()
        while time.perf_counter() < start + START_TIMEOUT:
            if self._process.poll() is not None:
                break
            if not self.port and (match := LISTENS.search(self._said)):
                self.port = int(match[1])
            if self.port and self.ask(body)[0] == 200:
                self.seconds_to_ready = time.perf_counter() - start
                return
            time.sleep(0.01)
        said = self._said.decode(errors="replace")
        raise BenchError(f"The server does not answer predictions. It said:\n{said}")

    def ask(self, body: bytes) -> tuple[int, bytes]:
        """Status and body of one answer; status 0 if there is none."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"Content-Type": "application/json"}
        try:
            connection.request("POST", "/v1/predict", body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, HTTPException):
            return 0, b""
        finally:
            connection.close()

    def cpu_seconds(self) -> float:
        """CPU time that it has used since its start."""
        fields = self._proc("stat", Path.read_text).rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        """Resident memory in bytes."""
        return self._memory("VmRSS")

    def peak_memory(self) -> int:
        """The most memory that was resident since its start, in bytes."""
        return self._memory("VmHWM")

    def descriptors(self) -> int:
        """Open file descriptors."""
        return len(self._proc("fd", os.listdir))

    def _memory(self, name: str) -> int:
        match = re.search(rf"{name}:\s+(\d+) kB", self._proc("status", Path.read_text))
        assert match
        return int(match[1]) * 1024

    def _proc(self, name: str, read: Callable[[Path], T]) -> T:
        try:
            return read(PROC / str(self._process.pid) / name)
        except OSError:
            said = self._said.decode(errors="replace")
            raise BenchError(f"The server has ended. It said:\n{said}") from None


def positive(text: str) -> float:
    """A time from the command line. Raises ValueError if it is none."""
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError
    return number


@cache  # before this process is moved to one of them
def cpus() -> tuple[set[int], set[int]]:
    """The CPU of the servers and that of the load; the same one if there is no other.

    Raises BenchError where the system does not tell what a process uses.
    """
    if not (PROC / "self" / "stat").exists():
        raise BenchError(
            "CPU and memory of a process are read from /proc, which only Linux has, "
            "as the cluster does: run this on Linux or in a container."
        )
    usable = sorted(os.sched_getaffinity(0))
    return {usable[0]}, {usable[-1]}


@contextmanager
def serving(module: str, body: bytes) -> Iterator[Server]:
    """`python -m module` with the settings of this environment, on a free port.

    `body` is a request that it answers once it is ready.
    """
    of_server, of_load = cpus()
    os.sched_setaffinity(0, of_server)  # which the server inherits
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        cwd=ROOT,
        env={**os.environ, "HOST": "127.0.0.1", "PORT": "0"},
        stderr=subprocess.PIPE,
    )
    os.sched_setaffinity(0, of_load)
    try:
        server = Server(process)
        server.wait(body)
        yield server
    finally:
        process.terminate()
        process.wait()
