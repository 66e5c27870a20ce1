"""Keep requests and answers of the tests: the examples of the API documentation.

`pytest --exchanges=FILE` writes them; the workers of pytest-xdist hand theirs on.
Without the equals sign pytest takes a FILE that exists for a test, and does not know
the option.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.examples import EXAMPLES

LONGEST = 4_000  # characters of a body that a page can show
SAMPLES = [
    json.dumps(one, separators=(",", ":"), ensure_ascii=False) for one in EXAMPLES
]

Exchange = dict[str, Any]
kept: dict[tuple[str, str, int], Exchange] = {}


def record(response: httpx2.Response) -> None:
    """Keep an answer and its request, if no better example is known."""
    request = response.request
    try:
        answer, body = response.read().decode(), request.read().decode()
    except UnicodeDecodeError:
        return  # no page can show it
    if max(len(answer), len(body)) > LONGEST:
        return
    keep(
        {
            "method": request.method,
            "path": request.url.raw_path.decode("ascii"),
            "headers": list_headers(request),
            "request": body,
            "status": response.status_code,
            "answer": answer,
        }
    )


def list_headers(request: httpx2.Request) -> list[str]:
    """Return the headers that an example shows, without the key."""
    headers = []
    if media := request.headers.get("content-type"):
        headers.append(f"Content-Type: {media}")
    if "authorization" in request.headers:
        headers.append("Authorization: Bearer …")
    return headers


def keep(exchange: Exchange) -> None:
    """Keep an exchange, if it is the best example of its answer so far."""
    key = exchange["method"], exchange["path"], exchange["status"]
    if key not in kept or rank(exchange) < rank(kept[key]):
        kept[key] = exchange


def rank(exchange: Exchange) -> tuple[bool, int, str]:
    """Return what orders the examples of one answer: the best is the least.

    A sample of app/examples.py is better than another body, and a short one than a long
    one.
    """
    has_sample = any(sample in exchange["request"] for sample in SAMPLES)
    whole = json.dumps(exchange)
    return not has_sample, len(whole), whole


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption("--exchanges", type=Path, help="where to keep examples of the API")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a worker of pytest-xdist has kept."""
    collect(getattr(node, "workeroutput", {}).get("exchanges", []))


def collect(exchanges: Iterable[Exchange]) -> None:
    """Keep the best of several workers."""
    for exchange in exchanges:
        keep(exchange)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the file, if all tests have passed."""
    output = getattr(session.config, "workeroutput", None)
    file = session.config.getoption("--exchanges")
    if output is not None:
        output["exchanges"] = list(kept.values())
    elif file and exitstatus == pytest.ExitCode.OK:
        file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps([kept[key] for key in sorted(kept)], ensure_ascii=False)
        file.write_text(text + "\n", encoding="utf-8")
