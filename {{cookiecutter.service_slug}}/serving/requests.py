"""What the layers of the stack tell each other about a request."""

from contextvars import ContextVar
from typing import NamedTuple

# Probes and scrapes are answered however busy the service is, and logged as debug.
UNLIMITED = frozenset({"/livez", "/readyz", "/metrics"})

# Keys of an ASGI scope, written by one layer and read by another.
REJECTED = "serving.rejected"  # admission turned the request away
TENANT = "serving.tenant"  # who asks, by a name that the configuration knows


class Outcome(NamedTuple):
    """How a request ended. Every part comes from a bounded set."""

    route: str
    method: str
    status: int


class Ids(NamedTuple):
    """The id of a request, and that of its trace if there is one."""

    request: str
    trace: str | None


# What every log line that is written during a request says of it.
current_ids: ContextVar[Ids | None] = ContextVar("current_ids", default=None)
