"""The open connections of a process, their timer and their limits.

One timer serves all of them. A timer for each request would add a twentieth to the time
of a small one.
"""

import asyncio
import logging
import sys
from collections.abc import Callable
from typing import Protocol

from serving.settings import ServingSettings

if sys.platform != "win32":
    import resource

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
# Connections leave an eighth of the descriptors, but at most 32, for everything else.
MAX_RESERVED = 32
RESERVED_SHARE = 8


class Connection(Protocol):
    """What this module asks of a connection."""

    since: int  # the tick at which its present state began

    @property
    def idle(self) -> bool:
        """Whether no request is in work."""

    @property
    def waits(self) -> bool:
        """Whether the request in work waits for the client."""

    @property
    def unsent(self) -> int:
        """Bytes of answers that the client has not taken."""

    def check(self, now: int) -> None:
        """End it if the client has taken too long."""

    def evict(self) -> None:
        """Close it at once."""


class Connections:
    """The open connections of a process.

    Time is counted in ticks of `TICK_SECONDS`, not read from a clock, so that no client
    times out while the process is stopped.
    """

    def __init__(
        self,
        settings: ServingSettings,
        record_end: Callable[[str], None] = lambda reason: None,
        record_response: Callable[[int, str], None] = lambda status, request_id: None,
    ) -> None:
        """Call `record_end` with the reason for each connection that a limit ends.

        Call `record_response` with status and id for each answer to data that is no
        valid request.
        """
        self.settings = settings
        self.record_end = record_end
        self.record_response = record_response
        self.now = 0
        self._open: dict[Connection, None] = {}  # the oldest first
        self._timer: asyncio.TimerHandle | None = None
        self._highest = highest_descriptor()
        self._warned = False  # that there are too many

    def __len__(self) -> int:
        return len(self._open)

    def add(
        self, connection: Connection, descriptor: int, loop: asyncio.AbstractEventLoop
    ) -> None:
        """Add a new connection. At a limit, close others."""
        self._open[connection] = None
        if self._timer is None:
            self._timer = loop.call_later(TICK_SECONDS, self.tick, loop)
        if descriptor > self._highest:
            self._make_room("descriptors")
        elif len(self._open) > self.settings.max_connections:
            self._make_room("connections")

    def remove(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self._open.pop(connection, None)

    def tick(self, loop: asyncio.AbstractEventLoop) -> None:
        """Count a tick, and end the connections that have taken too long."""
        self._timer = None
        self.now += 1
        self._limit_unsent()
        for connection in list(self._open):
            connection.check(self.now)
        if self._open:
            self._timer = loop.call_later(TICK_SECONDS, self.tick, loop)
        if len(self._open) < min(self._highest, self.settings.max_connections) // 2:
            self._warned = False

    def _limit_unsent(self) -> None:
        """Close connections whose answers take too much memory, the oldest first."""
        slow = [each for each in self._open if each.unsent]
        excess = sum(each.unsent for each in slow) - self.settings.max_bytes_in_work
        for connection in sorted(slow, key=lambda each: each.since):
            if excess <= 0:
                return
            excess -= connection.unsent
            self._close(connection, "unsent")

    def _make_room(self, reason: str) -> None:
        """Close an eighth of the idle connections, those that were idle longest.

        If none is idle, close an eighth of those that wait for their clients. If none
        waits, close the new one.
        """
        *others, new = self._open
        found = (
            [each for each in others if each.idle]
            or [each for each in others if each.waits]
            or [new]
        )
        found.sort(key=lambda each: each.since)
        for connection in found[: len(found) // 8 + 1]:
            self._close(connection, reason)
        if not self._warned:
            self._warned = True
            logger.warning(
                "Too many connections (%s): those that were idle longest are closed, "
                "then those that wait longest for their clients. "
                "MAX_CONNECTIONS is %d, and the process may have %d descriptors.",
                reason,
                self.settings.max_connections,
                descriptor_limit(),
            )

    def _close(self, connection: Connection, reason: str) -> None:
        self.record_end(reason)
        self.remove(connection)
        connection.evict()


def descriptor_limit() -> int:
    """Return the number of descriptors that the process may have open."""
    if sys.platform == "win32":
        return sys.maxsize
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def highest_descriptor() -> int:
    """Return the highest descriptor that a connection may have."""
    limit = descriptor_limit()
    return limit - 1 - min(MAX_RESERVED, limit // RESERVED_SHARE)
