"""What may be in work at once: requests, bytes, large bodies; and the time of a body.

Load above what the service can carry is rejected when it comes, not queued. One object
counts everything that is in work; the ASGI layer asks it for every request, whichever
route it is for.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.problems import (
    BODY_TIMEOUT,
    BODY_TOO_LARGE,
    CLIENT_LEFT,
    RETRY_AFTER,
    TOO_MANY_BYTES,
    TOO_MANY_REQUESTS,
    ProblemError,
    problem_response,
    unavailable,
)
from serving.requests import REJECTED, UNLIMITED
from serving.settings import ServingSettings

# So many bodies may always be worked on, for the model's calls to be shared; more, as
# long as they are small together: about what the fastest cache of a core holds.
FEW_BODIES = 8
SMALL_BYTES = 32_768
# A handler that waits for something else than the model must not stop all others.
SLOT_SECONDS = 0.5

# A connection that is rejected again within RETRY_AFTER is not read from for a moment:
# rejecting, too, takes time, which others need.
PAUSE_SECONDS = 0.25


class Slots:
    """Large bodies are worked on a few at a time; the others wait as bytes.

    A request that is parsed takes several times its bytes. Many large ones at once no
    longer fit the caches of the processor, which costs a tenth of the rate and more,
    and memory for all of them. First come, first served; for one event loop.

    A holder that keeps its slot longer than `SLOT_SECONDS` while others wait no longer
    counts: its handler waits for something else than the processor.
    """

    def __init__(self) -> None:
        self._bytes = 0
        # Who has a slot: its size, and since when, in that order.
        self._holders: dict[object, tuple[int, float]] = {}
        self._waiting: deque[tuple[object, int, asyncio.Future[None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def take(self, holder: object, size: int) -> asyncio.Future[None] | None:
        """Take a slot for a body of this size; `release` gives it back.

        Returns a future to wait for if there is none yet.
        """
        loop = asyncio.get_running_loop()
        if not self._waiting and self._has_room(size):
            self._add(holder, size, loop.time())
            return None
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append((holder, size, turn))
        if self._timer is None:
            self._timer = loop.call_later(SLOT_SECONDS, self._expire, loop)
        return turn

    def release(self, holder: object) -> None:
        """Give a slot back, if the holder has one: those that wait may have it."""
        size, _ = self._holders.pop(holder, (0, 0.0))
        self._bytes -= size
        if self._waiting:
            self._wake()

    def _wake(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._waiting:
            holder, size, turn = self._waiting[0]
            if turn.cancelled():
                self._waiting.popleft()
                continue
            if not self._has_room(size):
                return
            self._waiting.popleft()
            self._add(holder, size, now)
            turn.set_result(None)

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        for holder, (_, since) in list(self._holders.items()):
            if now - since < SLOT_SECONDS:
                break
            self.release(holder)
        if self._waiting:
            self._timer = loop.call_later(SLOT_SECONDS, self._expire, loop)

    def _has_room(self, size: int) -> bool:
        return len(self._holders) < FEW_BODIES or self._bytes + size <= SMALL_BYTES

    def _add(self, holder: object, size: int, now: float) -> None:
        self._holders[holder] = (size, now)
        self._bytes += size


class Deadline:
    """Ends what waits for the bytes of a body longer than `seconds`, with one timer.

    `asyncio.timeout` sets a timer for each request: a tenth of what a small one costs.
    It serves one event loop.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        # The bodies that have not arrived, in the order of their deadlines.
        self._bodies: dict[Body, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def start(self, body: "Body") -> None:
        """Begin to measure the time of a body."""
        loop = asyncio.get_running_loop()
        self._bodies[body] = loop.time() + self.seconds
        if self._timer is None:
            self._timer = loop.call_later(self.seconds, self._check, loop)

    def stop(self, body: "Body") -> None:
        """Forget a body that has arrived or whose request has ended."""
        self._bodies.pop(body, None)

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        """End what is overdue, and come back for the next."""
        self._timer = None
        now = loop.time()
        for body, due in list(self._bodies.items()):
            if due > now:
                self._timer = loop.call_at(due, self._check, loop)
                return
            del self._bodies[body]
            body.expire()


class Admission:
    """Counts what is in work and decides what is let in. Nobody else counts."""

    def __init__(
        self, settings: ServingSettings, on_reject: Callable[[], None] = lambda: None
    ) -> None:
        """`on_reject` is called for each request that is turned away."""
        self.requests = 0  # in flight; probes and scrapes do not count
        self.bytes = 0  # of bodies in work
        self.slots = Slots()
        self.deadline = Deadline(settings.body_seconds)
        self.max_body_bytes = settings.max_body_bytes
        self._max_requests = settings.max_concurrency
        self._max_bytes = settings.max_bytes_in_work
        self._on_reject = on_reject
        # Made once: the busier the service, the cheaper a rejection must be.
        self._too_many_requests = problem_response(
            unavailable(
                TOO_MANY_REQUESTS,
                f"The limit of {self._max_requests} requests at once is reached.",
            )
        )
        self._too_many_bytes = problem_response(
            unavailable(
                TOO_MANY_BYTES,
                f"The limit of {self._max_bytes} bytes of bodies at once is reached.",
            )
        )

    def admit(self, size: int) -> ASGIApp | None:
        """Count a request with a body of `size` bytes as in work until `release`.

        Returns the answer to give instead if there is no room. A body that is alone has
        room.
        """
        if self.requests >= self._max_requests:
            self._on_reject()
            return self._too_many_requests
        if size and self.bytes and self.bytes + size > self._max_bytes:
            self._on_reject()
            return self._too_many_bytes
        self.requests += 1
        self.bytes += size
        return None

    def release(self, size: int) -> None:
        """A request with a body of `size` bytes has been answered."""
        self.requests -= 1
        self.bytes -= size


def pause_after_rejection(earlier: float, now: float) -> float:
    """Return how long not to read from a connection, from when it was last rejected."""
    return PAUSE_SECONDS if now - earlier < RETRY_AFTER else 0.0


class AdmissionLayer:
    """ASGI middleware: the limits of requests and bodies, the same on every route."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNLIMITED:
            await self._app(scope, receive, send)
            return
        admission = self._admission
        size = announced_size(scope, admission.max_body_bytes)
        if size > admission.max_body_bytes:
            too_large = problem_response(body_too_large(admission.max_body_bytes))
            await too_large(scope, receive, send)
            return
        if rejection := admission.admit(size):
            scope[REJECTED] = True
            await rejection(scope, receive, send)
            return

        body = Body(receive, admission) if size else None
        try:
            await self._app(scope, body or receive, send)
        finally:
            admission.release(size)
            if body:
                body.close()


class Body:
    """The `receive` of a request with a body: its size and time are bounded.

    The last part is handed on once the body has a slot, which it keeps until the
    request is answered. Raises ProblemError (408, 413) in whoever reads it.
    """

    __slots__ = (
        *("_admission", "_arrived", "_overdue", "_receive"),
        *("_reader", "_size", "_started"),
    )

    def __init__(self, receive: Receive, admission: Admission) -> None:
        self._receive = receive
        self._admission = admission
        self._size = 0
        self._started = False
        self._arrived = False
        self._overdue = False
        self._reader: asyncio.Task[object] | None = None

    async def __call__(self) -> Message:
        """Receive the next part."""
        if self._arrived:
            return await self._receive()  # that the client has left
        admission = self._admission
        if not self._started:
            self._started = True
            admission.deadline.start(self)
        if self._overdue:
            raise body_timeout(admission.deadline.seconds)

        self._reader = asyncio.current_task()
        try:
            message = await self._receive()
        except asyncio.CancelledError:
            reader = self._reader
            if not self._overdue or reader is None or reader.uncancel() > 0:
                raise  # somebody else ends the task
            raise body_timeout(admission.deadline.seconds) from None
        finally:
            self._reader = None

        if message["type"] != "http.request":  # the client has left
            return message
        self._size += len(message.get("body", b""))
        if self._size > admission.max_body_bytes:
            raise body_too_large(admission.max_body_bytes)
        if message.get("more_body", False):
            return message

        self._arrived = True
        admission.deadline.stop(self)
        if turn := admission.slots.take(self, self._size):
            await self._wait_for(turn)
        return message

    def expire(self) -> None:
        """The deadline has passed: end whoever waits for the next part."""
        self._overdue = True
        if self._reader:
            self._reader.cancel()

    def close(self) -> None:
        """The request has ended."""
        self._admission.deadline.stop(self)
        self._admission.slots.release(self)

    async def _wait_for(self, turn: asyncio.Future[None]) -> None:
        try:
            await turn
        finally:
            turn.cancel()  # of no effect once it has come
        if await has_left(self._receive):
            raise ProblemError(CLIENT_LEFT, "The client left before its turn came.")


def announced_size(scope: Scope, limit: int) -> int:
    """Return the bytes that a body announces: `limit` if it does not say, else 0."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value.lstrip(b"0")[:20] or 0)  # Python reads no 5,000 digits
        if name == b"transfer-encoding":
            return limit
    return 0


def body_too_large(limit: int) -> ProblemError:
    """Refuse a body (413), and what else comes on its connection."""
    return ProblemError(
        BODY_TOO_LARGE,
        f"The body is larger than {limit} bytes; send it in parts.",
        headers={"Connection": "close"},
    )


def body_timeout(seconds: float) -> ProblemError:
    """End a body that takes too long (408), and its connection."""
    return ProblemError(
        BODY_TIMEOUT,
        f"The body did not arrive within {seconds} s.",
        headers={"Connection": "close"},
    )


async def has_left(receive: Receive) -> bool:
    """Return whether the client, whose whole body has come, waits no longer."""
    message = asyncio.ensure_future(receive())  # only that it left can come now
    await asyncio.sleep(0)
    left = message.done()
    message.cancel()
    return left
