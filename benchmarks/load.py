"""The load generator that every service has in `bench/load.py`, for this template.

wrk measures rates; this one holds a rate and tells answers from rejections. It keeps to
the core that `benchmarks.serving` leaves to the load.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from benchmarks.serving import LOAD_CORE, Server
from tests.conftest import BODY

sys.path.append(str(BODY))  # at the end: `tests` stays that of the template
# Bytecode in the template would become a part of every service.
kept, sys.dont_write_bytecode = sys.dont_write_bytecode, True

from bench import BenchError  # noqa: E402
from bench.load import (  # noqa: E402
    LOST,
    OK,
    REJECTED,
    Answer,
    Result,
    arrivals,
    closed_loop,
    open_loop,
    request,
)

sys.dont_write_bytecode = kept

__all__ = [
    "LOST",
    "OK",
    "REJECTED",
    "Answer",
    "BenchError",
    "Result",
    "arrivals",
    "closed_loop",
    "load_core",
    "open_loop",
    "port_of",
    "request",
]


@contextmanager
def load_core() -> Iterator[None]:
    """Keep this process to the core of the load until the block ends."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {LOAD_CORE})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def port_of(server: Server) -> int:
    """Return the port of a server."""
    port = urlsplit(server.url).port
    assert port is not None
    return port
