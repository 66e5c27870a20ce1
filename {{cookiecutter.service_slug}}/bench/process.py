"""Start the service on a CPU of its own, and read what it uses of the machine."""

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from bench import BenchError
from serving import testing


@dataclass(frozen=True)
class Process:
    """A service that is ready."""

    url: str
    pid: int
    seconds_to_ready: float
    cpus: int  # of which the service has one

    @property
    def port(self) -> int:
        """Return the port that it listens on."""
        return int(self.url.rpartition(":")[2])

    def get(self, path: str) -> Any:
        """Return the JSON document at a path. Raises OSError."""
        with urlopen(f"{self.url}{path}", timeout=10) as answer:
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
    """Run the service with these settings on a free port until the block ends.

    It has the first CPU for itself; this process keeps to the last one meanwhile.
    Raises BenchError, with the reason, if it does not get ready or there is no /proc.
    """
    if not Path("/proc/self/stat").exists():
        raise BenchError(
            "CPU and memory are read from /proc, which only Linux has: run this on "
            "Linux or in a container."
        )
    cpus = os.sched_getaffinity(0)
    with ExitStack() as stack:
        stack.callback(os.sched_setaffinity, 0, cpus)
        os.sched_setaffinity(0, {min(cpus)})  # which the service inherits
        start = time.perf_counter()
        try:
            service = stack.enter_context(testing.started(**settings))
        except (RuntimeError, TimeoutError) as error:
            raise BenchError(str(error)) from None
        seconds = time.perf_counter() - start
        os.sched_setaffinity(0, {max(cpus)})
        yield Process(service.url, service.process.pid, seconds, len(cpus))
