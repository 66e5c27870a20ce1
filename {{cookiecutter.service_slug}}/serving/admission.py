"""Limit what is in flight: requests, bytes, large bodies, and the time of a body.

Load above the limits is rejected on arrival, not queued. One object, `Admission`, does
all the counting. The ASGI layer asks it for every request on every route.

A body counts by the bytes that have arrived, not by those that it announces. Requests
whose bodies are still arriving have a limit of their own. At a limit, the body that has
stalled longest is ended.
"""

import asyncio
from collections import defaultdict, deque
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
    ProblemType,
    problem_response,
    unavailable,
)
from serving.requests import ARRIVED, LEFT, REJECTED, UNLIMITED
from serving.settings import ServingSettings

# This many bodies always get a slot, so that requests can share a call of the model.
MIN_SLOTS = 8
# More get one while their total size is at most this: about the L1 cache of a core.
SMALL_BYTES = 32_768
# A holder may lose its slot after this time (see `Slots`).
SLOT_SECONDS = 0.5

# A body has stalled if no byte of it has arrived for this long.
STALL_SECONDS = 1.0

# If the process was stopped or had no CPU time, overdue bodies expire this much later:
# it first reads what arrived meanwhile.
GRACE_SECONDS = 0.5

# Reading from a connection that is rejected again within RETRY_AFTER pauses this long,
# because rejections take CPU time too.
PAUSE_SECONDS = 0.25


class Slots:
    """Slots for bodies of a size: a few large ones are processed at a time.

    A parsed request takes several times the memory of its bytes. Many large ones at
    once overflow the CPU caches, which costs a tenth of the request rate or more.
    Slots are granted in order of arrival, within one event loop.

    A holder loses its slot after `SLOT_SECONDS` if others wait: its handler probably
    waits for something other than the CPU.
    """

    def __init__(self) -> None:
        self._bytes = 0
        # Size in bytes and time of the grant of each slot, oldest first.
        self._holders: dict[object, tuple[int, float]] = {}
        self._waiting: deque[tuple[object, int, asyncio.Future[None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def take(self, holder: object, size: int) -> asyncio.Future[None] | None:
        """Take a slot for a body of `size` bytes, until `release`.

        Return None if the slot is free, else a future that resolves once it is.
        """
        loop = asyncio.get_running_loop()
        if not self._waiting and self._has_room(size):
            self._add(holder, size, loop.time())
            return None
        slot: asyncio.Future[None] = loop.create_future()
        self._waiting.append((holder, size, slot))
        if self._timer is None:
            self._timer = loop.call_later(SLOT_SECONDS, self._expire, loop)
        return slot

    def release(self, holder: object) -> None:
        """Release the slot of a holder, if it has one, and grant it to the next."""
        size, _ = self._holders.pop(holder, (0, 0.0))
        self._bytes -= size
        if self._waiting:
            self._wake()

    def _wake(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._waiting:
            holder, size, slot = self._waiting[0]
            if slot.cancelled():
                self._waiting.popleft()
                continue
            if not self._has_room(size):
                return
            self._waiting.popleft()
            self._add(holder, size, now)
            slot.set_result(None)

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
        return len(self._holders) < MIN_SLOTS or self._bytes + size <= SMALL_BYTES

    def _add(self, holder: object, size: int, now: float) -> None:
        self._holders[holder] = (size, now)
        self._bytes += size


class Deadline:
    """Time out bodies that take longer than `seconds` to arrive, with one timer.

    A timer for each body (`asyncio.timeout`) would add a tenth to the cost of a small
    request. An instance belongs to one event loop.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        # Bodies still arriving, by deadline: the earliest first.
        self._bodies: dict[Body, float] = {}
        self._is_scheduled = False

    def start(self, body: "Body") -> None:
        """Start the time of a body."""
        loop = asyncio.get_running_loop()
        due = self._bodies[body] = loop.time() + self.seconds
        if not self._is_scheduled:
            self._check_at(due, loop)

    def stop(self, body: "Body") -> None:
        """Stop the time of a body that has arrived or whose request has ended."""
        self._bodies.pop(body, None)

    def _check_at(self, when: float, loop: asyncio.AbstractEventLoop) -> None:
        self._is_scheduled = True
        loop.call_at(when, self._check, when, loop)

    def _check(self, when: float, loop: asyncio.AbstractEventLoop) -> None:
        """Expire overdue bodies and set the timer for the next deadline."""
        now = loop.time()
        if now - when > GRACE_SECONDS:
            self._check_at(now + GRACE_SECONDS, loop)
            return
        self._is_scheduled = False
        for body, due in list(self._bodies.items()):
            if due > now:
                self._check_at(due, loop)
                return
            del self._bodies[body]
            body.expire(f"The body did not arrive within {self.seconds} s.")


class Admission:
    """Count what is in flight and decide which requests to admit."""

    def __init__(
        self, settings: ServingSettings, on_reject: Callable[[], None] = lambda: None
    ) -> None:
        """Call `on_reject` for each rejected request."""
        self.requests = 0  # in flight; probes and scrapes do not count
        self.bytes = 0  # of the bodies in flight, as far as they have arrived
        self.deadline = Deadline(settings.body_seconds)
        self.max_body_bytes = settings.max_body_bytes
        self._slots: defaultdict[int, Slots] = defaultdict(Slots)
        # Bodies that wait for their next bytes, and since when: the longest wait first.
        self._arriving: dict[Body, float] = {}
        self._max_requests = settings.max_concurrency
        self._max_bytes = settings.max_bytes_in_work
        self._max_arriving = settings.max_bodies_arriving
        self._on_reject = on_reject
        # Built once: rejections must be cheap under overload.
        self._rejection = problem_response(self._too_many_requests())

    def admit(self) -> ASGIApp | None:
        """Count a request as in flight.

        Return None, or the response that rejects it if the limit is reached.
        """
        if self.requests >= self._max_requests:
            self._on_reject()
            return self._rejection
        self.requests += 1
        return None

    def slots_for(self, size: int) -> Slots:
        """Return the slots of bodies of about this size, within a factor of eight.

        A small body never waits for large ones.
        """
        return self._slots[size.bit_length() // 3]

    def start_waiting(self, body: "Body") -> None:
        """Stop counting a request as in flight: it waits for bytes of its body.

        Raises ProblemError (503) if too many bodies do.
        """
        if body.in_flight:
            body.in_flight = False
            self.requests -= 1
        if len(self._arriving) >= self._max_arriving and not self._end_stalled():
            raise self._reject(
                body,
                TOO_MANY_REQUESTS,
                f"The limit of {self._max_arriving} bodies on their way is reached.",
            )
        self._arriving[body] = asyncio.get_running_loop().time()

    def stop_waiting(self, body: "Body") -> None:
        """Note that more of a body has arrived, or that its request has ended."""
        self._arriving.pop(body, None)

    def add_bytes(self, body: "Body", size: int) -> None:
        """Count bytes of a body that have arrived. Raises ProblemError (503).

        The limit never rejects the only body in flight.
        """
        while self.bytes + size > self._max_bytes and self.bytes > body.size:
            if not self._end_stalled():
                raise self._reject(
                    body,
                    TOO_MANY_BYTES,
                    f"The limit of {self._max_bytes} bytes of bodies at once is "
                    "reached.",
                )
        body.size += size
        self.bytes += size

    def readmit(self, body: "Body") -> None:
        """Count a request as in flight again: its whole body has arrived.

        Raises ProblemError (503) if the limit is reached.
        """
        if self.requests >= self._max_requests:
            body.scope[REJECTED] = True
            self._on_reject()
            raise self._too_many_requests()
        body.in_flight = True
        self.requests += 1

    def release(self, body: "Body") -> None:
        """Stop counting a request with a body."""
        self.release_bytes(body)
        if body.in_flight:
            body.in_flight = False
            self.requests -= 1

    def release_bytes(self, body: "Body") -> None:
        """Stop counting the bytes of a body."""
        self.bytes -= body.size
        body.size = 0

    def _too_many_requests(self) -> ProblemError:
        return unavailable(
            TOO_MANY_REQUESTS,
            f"The limit of {self._max_requests} requests at once is reached.",
        )

    def _end_stalled(self) -> bool:
        """End the body that has stalled longest. Return whether there was one."""
        for body, since in self._arriving.items():
            if asyncio.get_running_loop().time() - since < STALL_SECONDS:
                return False
            del self._arriving[body]
            self.release_bytes(body)
            body.expire("The body stalled, and others needed its room.")
            return True
        return False

    def _reject(self, body: "Body", type_: ProblemType, detail: str) -> ProblemError:
        body.scope[REJECTED] = True
        self._on_reject()
        headers = {"Retry-After": str(RETRY_AFTER), "Connection": "close"}
        return ProblemError(type_, detail, headers=headers)


def compute_pause(earlier: float, now: float) -> float:
    """Return the seconds to pause reading, from the time of the previous rejection."""
    return PAUSE_SECONDS if now - earlier < RETRY_AFTER else 0.0


class AdmissionLayer:
    """ASGI middleware that applies the same limits to every route."""

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
        if rejection := admission.admit():
            scope[REJECTED] = True
            await rejection(scope, receive, send)
            return

        if size == 0:
            try:
                await self._app(scope, receive, send)
            finally:
                admission.requests -= 1
            return
        body = Body(scope, receive, admission)
        try:
            await self._app(scope, body, send)
        finally:
            body.close()


class Body:
    """The `receive` callable of a request with a body, bounded in size and time.

    The last chunk is returned once the body has a slot, which it keeps until the
    request is answered. Calls raise ProblemError: 408, 413, 503, or 400 if the client
    left.
    """

    in_flight = True  # whether it is counted as in flight
    size = 0  # bytes of it that are counted
    _total = 0
    _started = False
    _arrived = False
    _expired = ""  # the reason, once it has expired
    _reader: asyncio.Task[object] | None = None
    _slots: Slots | None = None

    def __init__(self, scope: Scope, receive: Receive, admission: Admission) -> None:
        self.scope = scope
        self._receive = receive
        self._admission = admission

    async def __call__(self) -> Message:
        """Receive the next chunk."""
        if self._arrived:
            return await self._receive()  # the disconnect of the client
        admission = self._admission
        if self._started or ARRIVED not in self.scope:
            message = await self._receive_in_time()
        else:  # it came with the head, as most do: there is nothing to wait for
            message = await self._receive()

        if message["type"] != "http.request":
            raise ProblemError(
                CLIENT_LEFT, "The client left before the body was complete."
            )
        size = len(message.get("body", b""))
        self._total += size
        if self._total > admission.max_body_bytes:
            raise body_too_large(admission.max_body_bytes)
        admission.add_bytes(self, size)
        if message.get("more_body", False):
            return message

        self._arrived = True
        if not self.in_flight:
            admission.deadline.stop(self)
            admission.readmit(self)
        self._slots = admission.slots_for(self._total)
        if slot := self._slots.take(self, self._total):
            await self._wait_for(slot)
        return message

    async def _receive_in_time(self) -> Message:
        """Receive a chunk that may still have to arrive. Raises ProblemError."""
        admission = self._admission
        if not self._started:
            self._started = True
            admission.deadline.start(self)
        if self._expired:
            raise body_timeout(self._expired)

        admission.start_waiting(self)
        self._reader = asyncio.current_task()
        try:
            return await self._receive()
        except asyncio.CancelledError:
            reader = self._reader
            if not self._expired or reader is None or reader.uncancel() > 0:
                raise  # something else cancelled the task
            raise body_timeout(self._expired) from None
        finally:
            self._reader = None
            admission.stop_waiting(self)

    def expire(self, reason: str) -> None:
        """Mark the body as expired and cancel the task that waits for a chunk."""
        self._expired = reason
        if self._reader:
            self._reader.cancel()

    def close(self) -> None:
        """Release all that the body holds: the request has ended."""
        if self._started:
            self._admission.deadline.stop(self)
        self._admission.release(self)
        if self._slots:
            self._slots.release(self)

    async def _wait_for(self, slot: asyncio.Future[None]) -> None:
        try:
            await slot
        finally:
            slot.cancel()  # no effect once it is granted
        if LEFT in self.scope or await client_has_left(self._receive):
            raise ProblemError(
                CLIENT_LEFT, "The client left while it waited for a slot."
            )


def announced_size(scope: Scope, limit: int) -> int:
    """Return the announced bytes of a body: `limit` if it is chunked, 0 without one."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value.lstrip(b"0")[:20] or 0)  # int() takes 4,300 digits at most
        if name == b"transfer-encoding":
            return limit
    return 0


def body_too_large(limit: int) -> ProblemError:
    """Return the error for a body that is too large (413). It closes the connection."""
    return ProblemError(
        BODY_TOO_LARGE,
        f"The body is larger than {limit} bytes: send less at a time, such as fewer "
        "instances.",
        headers={"Connection": "close"},
    )


def body_timeout(detail: str) -> ProblemError:
    """Return the error for a body that is too slow (408). It closes the connection."""
    return ProblemError(BODY_TIMEOUT, detail, headers={"Connection": "close"})


async def client_has_left(receive: Receive) -> bool:
    """Return whether the client has disconnected after sending its whole body."""
    message = asyncio.ensure_future(receive())  # only a disconnect can come now
    await asyncio.sleep(0)
    left = message.done()
    message.cancel()
    return left
