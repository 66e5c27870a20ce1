"""Data about a request that the layers of the stack share."""

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
ROUTE_PATH = "serving.route_path"  # the path without ROOT_PATH, if "path" has it


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
    """Return a random id of 128 bits that nobody can guess, in hexadecimal digits."""
    try:
        return _ids.pop()
    except IndexError:
        digits = urandom(4_096).hex()
        first, *more = (digits[at : at + 32] for at in range(0, len(digits), 32))
        _ids.extend(more)
        return first


# Made many at a time: a system call for each would take 1 % of a small request.
_ids: list[str] = []
