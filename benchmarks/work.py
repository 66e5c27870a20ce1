"""What one client's input costs others: fairness, stalls, and the slowest texts.

Every figure is a ratio or a time beside what it is compared with. A polite client asks
for one prediction at a time, over one connection.
"""

import http.client
import json
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.generated import PREDICT, python, served, trained
from benchmarks.load import load_core, port_of
from benchmarks.results import Fairness, Stall, versions
from tests.conftest import Service

CLIENTS = 10
TEXT = "turn on the lights in the kitchen "
POLITE = json.dumps({"instances": [{"text": TEXT}]})
# The largest body: 1,000 texts that fill a mebibyte.
LARGE = json.dumps({"instances": [{"text": TEXT * 30}] * 1_000})
# Marks in descending order of their class, which is the worst order to sort.
MARKS = "".join(map(chr, (0x345, 0x35D, 0x35C, 0x300, 0x316, 0x31B, 0x5B0, 0x334)))

# Bodies of about MAX_BODY_BYTES, but for the two that need fewer.
WORST = {
    "1,000 plain texts": LARGE,
    "1,000 × 80 unknown fields": json.dumps(
        {"instances": [{f"f{number}": 1 for number in range(80)}] * 1_000}
    ),
    "90,000 unknown fields": json.dumps({f"{key:x}": 1 for key in range(90_000)}),
    "a list of 400,000 numbers": '{"x": [%s0]}' % ("0," * 400_000),
    "34 × 10,000 U+FDFA": json.dumps(
        {"instances": [{"text": "\ufdfa" * 10_000}] * 34}, ensure_ascii=False
    ),
    "50 × 10,000 marks": json.dumps(
        {"instances": [{"text": MARKS * 1_250}] * 50}, ensure_ascii=False
    ),
    "probabilities for 1,000 letters": json.dumps(
        {"instances": [{"text": "a"}] * 1_000, "probabilities": True}
    ),
}

# Prints nanoseconds for each byte of a text, by its name.
TEXTS = """
import json, time
from serving.text import normalise
texts = {
    "ASCII": "turn on the lights " * 500,
    "French": "décidément où est-ce " * 400,
    "Hindi": "रसोई की बत्ती " * 400,
    "Chinese": "打开厨房的灯" * 1_600,
    "U+FDFA": "\\ufdfa" * 10_000,
    "marks in the worst order": %r * 1_250,
    "29 marks on each letter": ("a" + %r[:29]) * 333,
    "U+0344, which is two marks": "\\u0344" * 10_000,
}
def seconds(text):
    begin = time.perf_counter()
    normalise(text)
    return time.perf_counter() - begin
print(json.dumps({
    name: min(seconds(text) for _ in range(5)) / len(text.encode()) * 1e9
    for name, text in texts.items()
}))
""" % (MARKS, MARKS * 4)


def measure(seconds: float = 5) -> dict[str, object]:
    """Measure fairness and stalls for so many seconds each, and the texts."""
    with trained() as service, served(service) as server, load_core():
        port = port_of(server)
        return {
            "versions": versions(python(service), "fastapi", "pydantic", "uvicorn"),
            "clients": CLIENTS,
            "fairness": fairness(port, seconds),
            "stalls": {name: stall(port, body) for name, body in WORST.items()},
            "texts": texts(service),
        }


def fairness(port: int, seconds: float) -> Fairness:
    """Compare a polite client's median alone with that beside ten large ones."""
    alone = statistics.median(latencies(port, "POST", PREDICT, POLITE, seconds))
    with senders(port, LARGE, CLIENTS):
        time.sleep(0.5)
        beside = statistics.median(latencies(port, "POST", PREDICT, POLITE, seconds))
    return {"alone": alone, "beside": beside, "ratio": beside / alone}


def stall(port: int, body: str, seconds: float = 3) -> Stall:
    """Ask for liveness while two clients send a body again and again."""
    with senders(port, body, 2):
        probes = sorted(latencies(port, "GET", "/livez", "", seconds))
    return {
        "bytes": len(body.encode()),
        "median": statistics.median(probes),
        "longest": probes[-1],
    }


def texts(service: Service) -> dict[str, float]:
    """Return nanoseconds for each byte of a text, by its name."""
    done = subprocess.run(
        [str(python(service)), "-c", TEXTS],
        cwd=service.path,
        capture_output=True,
        check=True,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def latencies(
    port: int, method: str, path: str, body: str, seconds: float
) -> list[float]:
    """Ask again and again over one connection; return the seconds of each answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    found = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begin = time.perf_counter()
        ask(connection, method, path, body)
        found.append(time.perf_counter() - begin)
        time.sleep(0.002)
    connection.close()
    return found


@contextmanager
def senders(port: int, body: str, count: int) -> Iterator[None]:
    """Send a body over so many connections, again and again, until the block ends."""
    stopped = threading.Event()

    def send() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while not stopped.is_set():
            ask(connection, "POST", PREDICT, body)
        connection.close()

    threads = [threading.Thread(target=send) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: str
) -> None:
    """Send a request and read the whole answer."""
    headers = {"Content-Type": "application/json"} if body else {}
    connection.request(method, path, body.encode(), headers)
    connection.getresponse().read()
