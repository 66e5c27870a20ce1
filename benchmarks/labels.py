"""How rate and p99 grow with the number of labels, on the service as generated."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from benchmarks import wrk
from benchmarks.generated import BODY, PREDICT, python, served, trained
from benchmarks.results import versions
from tests.conftest import Service

NUMBERS = (2, 10, 30, 100, 300, 1000)
FITTING = Path(__file__).with_name("fitting.py")


def measure(
    rounds: int = 5,
    seconds: float = 3,
    connections: int = 64,
    numbers: Sequence[int] = NUMBERS,
) -> dict[str, object]:
    """Serve a model for each number of labels, and ask them in turn."""
    loads: dict[int, list[wrk.Load]] = {number: [] for number in numbers}
    with trained() as service, ExitStack() as servers:
        urls = {n: servers.enter_context(labelled(service, n)) for n in numbers}
        for url in urls.values():
            wrk.load(url, [BODY], connections, 1)
        for turn in range(rounds):
            for number in numbers if turn % 2 else reversed(numbers):
                load = wrk.load(urls[number], [BODY], connections, seconds)
                loads[number].append(load)
            print(f"  round {turn + 1} of {rounds}", flush=True)
        found = versions(python(service), "fastapi", "onnxruntime", "uvicorn")
    return {
        "versions": found,
        "connections": connections,
        "labels": {
            str(number): {
                "rate": round(median(load.rate for load in of), 1),
                "p99": round(median(load.p99 for load in of), 5),
            }
            for number, of in loads.items()
        },
    }


@contextmanager
def labelled(service: Service, number: int) -> Iterator[str]:
    """Fit a model of so many labels and serve it; gives the URL to ask at."""
    directory = f"outputs/labels/{number}"
    # -P: the modules beside the script are none of its own.
    fit = ("python", "-P", str(FITTING), str(number), directory)
    service.run(*fit, PYTHONPATH=str(service.path))
    with served(service, models=directory) as server:
        yield server.url + PREDICT
