"""Data about a request that the layers of the stack share."""

from collections.abc import Iterator
from contextvars import ContextVar
from os import urandom
from typing import NamedTuple

# The prefix of the Open Inference Protocol.
V2 = "/v2"
# Probes and scrapes: no limit applies to them, and they are logged as debug.
PROBES = frozenset({"/livez", "/readyz", f"{V2}/health/live", f"{V2}/health/ready"})
UNLIMITED = PROBES | {"/metrics"}

# Keys of the ASGI scope that one layer writes and another reads.
REJECTED = "serving.rejected"  # admission rejected the request
ARRIVED = "serving.arrived"  # the whole body has come
LEFT = "serving.left"  # the client has closed its side of the connection
TENANT = "serving.tenant"  # the name of the client's API key


class Outcome(NamedTuple):
    """How a request ended. Each field has a bounded set of values."""

    route: str
    method: str
    status: int


class Ids(NamedTuple):
    """The id of a request, and of its trace if there is one."""

    request: str
    trace: str | None


# Added to every log line that is written during a request.
current_ids: ContextVar[Ids | None] = ContextVar("current_ids", default=None)


def make_id() -> str:
    """Return a random id of 128 bits that nobody can guess, in hexadecimal digits.

    Call it in the event loop only.
    """
    return next(_random_ids)


def make_random_ids() -> Iterator[str]:
    """Yield random ids. A system call for each would take 2 % of a small request."""
    while True:
        digits = urandom(4_096).hex()
        for start in range(0, len(digits), 32):
            yield digits[start : start + 32]


_random_ids = make_random_ids()
