"""A body arrives in time and within its size, or its request ends."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from serving.admission import MIN_SLOTS, Admission, Body
from serving.problems import ProblemError
from serving.settings import ServingSettings

SHORT = 0.05
Part = tuple[float, bytes, bool]  # seconds before it, its bytes, whether more come


def body_of(admission: Admission, *parts: Part) -> Body:
    """Return a body whose parts arrive with these delays."""
    coming = iter(parts)

    async def receive() -> Any:
        delay, data, more = next(coming)
        await asyncio.sleep(delay)
        return {"type": "http.request", "body": data, "more_body": more}

    return Body(receive, admission)


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
        await Body(receive, Admission(ServingSettings()))()

    with pytest.raises(ConnectionError):
        asyncio.run(run(fail))


def test_a_request_that_has_ended_leaves_its_slot() -> None:
    async def run() -> None:
        admission = Admission(ServingSettings())
        size = admission.max_body_bytes
        for _ in range(MIN_SLOTS):
            await read(body_of(admission, (0, b"x" * size, False)))
        assert admission.slots.take("next", size) is None

    asyncio.run(run())
