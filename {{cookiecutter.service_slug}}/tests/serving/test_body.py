"""A body arrives in time and within its size, or its request ends."""

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from serving.admission import MIN_SLOTS, Admission, Body
from serving.problems import ProblemError
from serving.settings import ServingSettings

SHORT = 0.05
Part = tuple[float, bytes, bool]  # seconds before it, its bytes, whether more come


def new_body(receive: Callable[[], Awaitable[Any]], admission: Admission) -> Body:
    """Return a body of a request that was admitted."""
    assert admission.admit() is None
    return Body({}, receive, admission)


def body_of(admission: Admission, *parts: Part) -> Body:
    """Return a body whose parts arrive with these delays."""
    coming = iter(parts)

    async def receive() -> Any:
        delay, data, more = next(coming)
        await asyncio.sleep(delay)
        return {"type": "http.request", "body": data, "more_body": more}

    return new_body(receive, admission)


async def read(body: Body) -> int | str:
    """Return how many bytes came, or the status that ended it."""
    size = 0
    try:
        while True:
            message = await body()
            size += len(message["body"])
            if not message["more_body"]:
                return size
    except ProblemError as error:
        return f"{error.status_code}"
    finally:
        body.close()


def outcomes(*parts: list[Part], **settings: Any) -> list[object]:
    """Return what comes of bodies that begin at the same moment."""

    async def run() -> list[object]:
        admission = Admission(ServingSettings(body_seconds=SHORT, **settings))
        async with asyncio.timeout(10):
            return await asyncio.gather(
                *[read(body_of(admission, *each)) for each in parts]
            )

    return asyncio.run(run())


def test_a_late_body_is_408_and_one_in_time_is_not() -> None:
    late: list[Part] = [(60, b"x", False)]

    assert outcomes(late, [(0, b"xx", False)], late) == ["408", 2, "408"]


def test_a_body_whose_request_has_ended_is_not_kept_until_its_deadline() -> None:
    async def end_a_body() -> "weakref.ref[Body]":
        body = body_of(Admission(ServingSettings(body_seconds=60)), (0, b"a", True))
        await body()
        body.close()
        return weakref.ref(body)

    async def run() -> None:
        kept = await end_a_body()
        gc.collect()
        assert kept() is None

    asyncio.run(run())


def test_a_body_in_many_parts_has_one_deadline() -> None:
    drip: list[Part] = [(SHORT / 5, b"x", True)] * 100

    assert outcomes(drip) == ["408"]


def test_a_body_that_begins_later_has_its_own_time() -> None:
    async def run() -> list[object]:
        admission = Admission(ServingSettings(body_seconds=SHORT))

        async def later() -> object:
            await asyncio.sleep(SHORT / 2)
            return await read(body_of(admission, (60, b"x", False)))

        async with asyncio.timeout(10):
            first = read(body_of(admission, (60, b"x", False)))
            return list(await asyncio.gather(first, later()))

    assert asyncio.run(run()) == ["408", "408"]


def test_a_handler_that_reads_late_gets_a_body_that_has_come() -> None:
    async def run() -> object:
        admission = Admission(ServingSettings(body_seconds=SHORT))
        await asyncio.sleep(3 * SHORT)
        return await read(body_of(admission, (0, b"x", False)))

    assert asyncio.run(run()) == 1


def test_a_body_over_the_limit_is_413() -> None:
    parts: list[Part] = [(0, b"xxx", True), (0, b"xxx", False)]

    assert outcomes(parts, max_body_bytes=5) == ["413"]
    assert outcomes(parts, max_body_bytes=6) == [6]


def test_the_task_goes_on_after_a_timeout() -> None:
    async def run() -> str:
        admission = Admission(ServingSettings(body_seconds=SHORT))
        await read(body_of(admission, (60, b"x", False)))
        await asyncio.sleep(2 * SHORT)
        return "done"

    assert asyncio.run(run()) == "done"


def test_a_request_that_is_cancelled_stays_cancelled() -> None:
    async def run() -> None:
        admission = Admission(ServingSettings(body_seconds=60))
        task = asyncio.create_task(read(body_of(admission, (60, b"x", False))))
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run())


def test_the_failure_of_a_connection_reaches_the_reader() -> None:
    async def fail() -> Any:
        raise ConnectionError

    async def run(receive: Callable[[], Awaitable[Any]]) -> None:
        await new_body(receive, Admission(ServingSettings()))()

    with pytest.raises(ConnectionError):
        asyncio.run(run(fail))


def test_a_request_that_has_ended_leaves_its_slot() -> None:
    async def run() -> None:
        admission = Admission(ServingSettings())
        size = admission.max_body_bytes
        for _ in range(MIN_SLOTS):
            await read(body_of(admission, (0, b"x" * size, False)))
        assert admission.slots_for(size).take("next", size) is None

    asyncio.run(run())


class Upload:
    """A body that comes as its test says."""

    def __init__(self, admission: Admission) -> None:
        self._parts: asyncio.Queue[Any] = asyncio.Queue()
        self.body = new_body(self._parts.get, admission)
        self._task = asyncio.create_task(read(self.body))

    async def send(self, size: int, *, more: bool = True) -> None:
        """Send bytes."""
        part = {"type": "http.request", "body": b"x" * size, "more_body": more}
        await self._parts.put(part)
        await asyncio.sleep(0.01)

    async def outcome(self) -> int | str:
        """Return how many bytes came, or the status that ended it."""
        async with asyncio.timeout(10):
            return await self._task


def run_with(
    test: Callable[[Admission], Awaitable[None]], **settings: Any
) -> Admission:
    """Run a test with limits, and check that everything is given back."""
    admission = Admission(ServingSettings(body_seconds=60, **settings))

    async def run() -> None:
        await test(admission)

    asyncio.run(run())
    assert admission.requests == admission.bytes == 0
    return admission


def test_only_a_body_that_has_come_counts_as_in_flight() -> None:
    async def test(admission: Admission) -> None:
        uploads = [Upload(admission) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert admission.requests == 0
        for upload in uploads:
            await upload.send(5, more=False)
        assert [await upload.outcome() for upload in uploads] == [5, 5, 5]

    run_with(test, max_concurrency=3)


def test_a_body_that_has_come_is_rejected_if_too_many_have_come_before() -> None:
    async def test(admission: Admission) -> None:
        late = Upload(admission)
        await asyncio.sleep(0.01)
        assert admission.admit() is None
        await late.send(5, more=False)
        assert await late.outcome() == "503"
        admission.requests -= 1

    run_with(test, max_concurrency=1)


def test_bytes_count_as_they_come() -> None:
    async def test(admission: Admission) -> None:
        first, second = Upload(admission), Upload(admission)
        await first.send(60)
        assert admission.bytes == 60
        await second.send(60)
        assert await second.outcome() == "503"
        await first.send(60, more=False)
        assert await first.outcome() == 120  # it is alone

    run_with(test, max_bytes_in_work=100)


@pytest.mark.parametrize(
    "settings", [{"max_bytes_in_work": 100}, {"max_bodies_arriving": 1}]
)
def test_a_body_that_stalls_ends_if_others_need_its_room(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, int]
) -> None:
    monkeypatch.setattr("serving.admission.STALL_SECONDS", SHORT)

    async def test(admission: Admission) -> None:
        stalls = Upload(admission)
        await stalls.send(60)
        await asyncio.sleep(2 * SHORT)
        comes = Upload(admission)
        await comes.send(60)
        assert await stalls.outcome() == "408"
        await comes.send(60, more=False)
        assert await comes.outcome() == 120

    run_with(test, **settings)


def test_more_bodies_on_their_way_than_may_be_are_rejected() -> None:
    async def test(admission: Admission) -> None:
        first, second = Upload(admission), Upload(admission)
        await asyncio.sleep(0.01)
        assert await second.outcome() == "503"
        await first.send(5, more=False)
        assert await first.outcome() == 5

    run_with(test, max_bodies_arriving=1)
