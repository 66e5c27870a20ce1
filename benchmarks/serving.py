"""Starts a server on a core of its own, tells what it takes, and ends it."""

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

# The server has one core, whoever asks it has another.
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]

READY_SECONDS = 120
END_SECONDS = 15
LOG_LINES = 15

# Variables of whoever runs the benchmark that would change a server.
OURS = {"VIRTUAL_ENV", "PYTHONPATH", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PORT"}


class ServingError(Exception):
    """The server did not get ready; the message has the end of its log."""


@dataclass(frozen=True)
class Server:
    """A server that is ready. `pid` is the first of its processes."""

    url: str
    pid: int
    seconds_to_ready: float

    def pause(self) -> None:
        """Stop it where it stands: an idle server may still use its core."""
        tell(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        tell(self.pid, signal.SIGCONT)


@contextmanager
def serving(
    command: Sequence[str],
    port: int,
    ready: str,
    log: Path,
    cwd: Path,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Server]:
    """Serve on 127.0.0.1 until the block ends; `ready` is the path that tells.

    What it prints goes to `log`. Raises ServingError if it is not ready in time.
    """
    start = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment(variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {SERVER_CORE}),
        )
    try:
        _wait_until_ready(process, port, ready, log)
        seconds = time.perf_counter() - start
        yield Server(f"http://127.0.0.1:{port}", process.pid, seconds)
    finally:
        _end(process)


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a program that is not part of this one."""
    inherited = {key: value for key, value in os.environ.items() if key not in OURS}
    return inherited | dict(variables)


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def processes(pid: int) -> list[int]:
    """Return the ids of a process and of all that descend from it, parents first."""
    found = [pid]
    for parent in found:
        with suppress(OSError):  # it has ended
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def resident_bytes(pid: int) -> int:
    """Resident memory of all its processes; what they share counts in each."""
    pages = 0
    for each in processes(pid):
        with suppress(OSError):
            pages += int(Path(f"/proc/{each}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """Processor time that its processes have used so far."""
    ticks = 0
    for each in processes(pid):
        with suppress(OSError):
            fields = _stat(each)
            ticks += int(fields[11]) + int(fields[12])  # user and system
    return ticks / os.sysconf("SC_CLK_TCK")


def open_files(pid: int) -> int:
    """Return how many file descriptors its processes hold."""
    count = 0
    for each in processes(pid):
        with suppress(OSError):
            count += len(os.listdir(f"/proc/{each}/fd"))
    return count


def runs(pid: int) -> bool:
    """Return whether the process exists and is no zombie."""
    try:
        return _stat(pid)[0] != "Z"
    except OSError:
        return False


def tell(pid: int, what: signal.Signals) -> None:
    """Send a signal to a process and to all that descend from it."""
    for each in processes(pid):
        with suppress(ProcessLookupError):
            os.kill(each, what)


def _stat(pid: int) -> list[str]:
    """Return what the kernel says of a process, from its state on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _wait_until_ready(
    process: subprocess.Popen[bytes], port: int, ready: str, log: Path
) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServingError(
                f"The server ended with {process.returncode}:\n{_end_of(log)}"
            )
        if _answers(port, ready):
            return
        time.sleep(0.01)
    raise ServingError(
        f"The server was not ready after {READY_SECONDS} s:\n{_end_of(log)}"
    )


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _end_of(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-LOG_LINES:]) or "(it printed nothing)"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it and its workers, which may be in process groups of their own."""
    family = processes(process.pid)
    tell(process.pid, signal.SIGTERM)
    tell(process.pid, signal.SIGCONT)  # a paused process would not hear the first
    deadline = time.monotonic() + END_SECONDS
    while process.poll() is None or any(map(runs, family)):
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    for each in filter(runs, family):
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
    process.wait()
