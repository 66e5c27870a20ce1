"""How cost grows on the default service: by connections, instances and length of text.

Beside it stands the bare limit: the same model behind an ASGI function on uvicorn,
without validation, batching, limits, ids, metrics or logs.
"""

import http.client
import json
import random
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from statistics import median
from typing import Any
from urllib.parse import urlsplit

from benchmarks import wrk
from benchmarks.generated import PREDICT, python, served, trained
from benchmarks.peers.environments import HERE
from benchmarks.results import Load, versions
from benchmarks.serving import Server, free_port, serving
from tests.conftest import Service, read_texts

CONNECTIONS = (1, 16, 64, 256)
BATCHES = (1, 10, 100, 1000)
LENGTHS = (10, 100, 1000, 10_000)
SOME_CONNECTIONS = 16
TOLERANCE = 1e-4


class DifferentAnswers(Exception):
    """The bare limit does not answer as the service does: it is no limit of it."""


def measure(rounds: int = 3, seconds: float = 3) -> dict[str, object]:
    """Serve the default service and the bare limit, and load them in turns."""
    with trained() as service, ExitStack() as servers:
        ours = servers.enter_context(served(service)).url + PREDICT
        theirs = servers.enter_context(serve_bare(service)).url + PREDICT
        texts = read_texts(service, "data/test.parquet")
        one = [instances(text) for text in texts]
        plain = [json.dumps({"text": text}) for text in texts]
        check_answers(ours, theirs, texts[:10])

        runs: dict[str, dict[int, tuple[str, list[str], int]]] = {
            "connections": {many: (ours, one, many) for many in CONNECTIONS},
            "bare": {many: (theirs, plain, many) for many in CONNECTIONS},
            "batches": {
                size: (ours, batches(texts, size), SOME_CONNECTIONS) for size in BATCHES
            },
            "lengths": {
                length: (ours, [instances(grow(length))], SOME_CONNECTIONS)
                for length in LENGTHS
            },
        }
        loads: dict[str, dict[int, list[wrk.Load]]] = {
            name: {number: [] for number in of} for name, of in runs.items()
        }
        for turn in range(rounds):
            for name, of in runs.items():
                for number, (url, bodies, many) in of.items():
                    done = wrk.load(url, bodies, many, seconds)
                    loads[name][number].append(done)
            print(f"  round {turn + 1} of {rounds}", flush=True)
        found = versions(python(service), "fastapi", "onnxruntime", "uvicorn")
    return {
        "versions": found,
        **{
            name: {
                str(number): summarise(done, number if name == "batches" else 1)
                for number, done in of.items()
            }
            for name, of in loads.items()
        },
    }


def serve_bare(service: Service) -> AbstractContextManager[Server]:
    """Serve the model of a service behind `peers/bare.py`."""
    port = free_port()
    # -P: the modules in the working directory are none of its own.
    command = [str(python(service)), "-P", "-m", "uvicorn", "--app-dir", str(HERE)]
    command += ["--port", str(port), "--no-access-log", "--log-level", "warning"]
    log = service.path / f"{port}.log"
    variables = {"MODEL_DIR": "models"}
    command.append("bare:app")
    return serving(command, port, "/ready", log, service.path, variables)


def summarise(loads: Sequence[wrk.Load], instances: int) -> Load:
    """Return the medians of the rounds; the rate counts instances."""
    rate = instances * median(load.rate for load in loads)
    return {
        "rate": round(rate, 1),
        "p99": round(median(load.p99 for load in loads), 6),
    }


def instances(*texts: str) -> str:
    """Return the body of a request for these texts."""
    return json.dumps({"instances": [{"text": text} for text in texts]})


def batches(texts: Sequence[str], size: int) -> list[str]:
    """Return some bodies of `size` sentences each."""
    chance = random.Random(0)
    return [instances(*chance.choices(texts, k=size)) for _ in range(50)]


def grow(length: int) -> str:
    """Return a text of this many characters."""
    words = "turn on the lights in the kitchen "
    return (words * (length // len(words) + 1))[: length - 1] + "s"


def check_answers(ours: str, theirs: str, texts: Sequence[str]) -> None:
    """Raise DifferentAnswers if the bare limit gives another probability."""
    for text in texts:
        (prediction,) = ask(ours, instances(text))["predictions"]
        best = max(ask(theirs, json.dumps({"text": text}))["probabilities"])
        if abs(best - prediction["score"]) > TOLERANCE:
            raise DifferentAnswers(f"{prediction['score']} and {best} for {text!r}")


def ask(url: str, body: str) -> Any:
    """Return the answer to one request."""
    where = urlsplit(url)
    assert where.hostname is not None
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=30)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", where.path, body, headers)
        return json.load(connection.getresponse())
    finally:
        connection.close()
