"""Whatever is awaited through a deadline ends in time, and nothing else is ended."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from serving.admission import Deadline

SHORT = 0.05


def outcomes(*coroutines: Coroutine[Any, Any, object]) -> list[object]:
    """The result or the class of the error of each, all started at the same moment."""

    async def run() -> list[object]:
        async with asyncio.timeout(10):
            results = await asyncio.gather(*coroutines, return_exceptions=True)
        return [type(r) if isinstance(r, BaseException) else r for r in results]

    return asyncio.run(run())


async def after(seconds: float) -> str:
    """Take so long."""
    await asyncio.sleep(seconds)
    return "done"


def test_what_is_late_ends_and_what_is_not_does_not() -> None:
    deadline = Deadline(SHORT)

    assert outcomes(
        deadline.meet(after(60)), deadline.meet(after(0)), deadline.meet(after(60))
    ) == [TimeoutError, "done", TimeoutError]


def test_who_comes_later_has_a_time_of_his_own() -> None:
    deadline = Deadline(SHORT)

    async def later() -> str:
        await asyncio.sleep(SHORT / 2)
        return await deadline.meet(after(60))

    assert outcomes(deadline.meet(after(60)), later()) == [TimeoutError, TimeoutError]


def test_the_task_goes_on_after_a_time_out() -> None:
    deadline = Deadline(SHORT)

    async def goes_on() -> str:
        with pytest.raises(TimeoutError):
            await deadline.meet(after(60))
        return await after(SHORT * 2)

    assert outcomes(goes_on()) == ["done"]


def test_somebody_else_may_end_it_and_so_may_its_own_failure() -> None:
    deadline = Deadline(60)

    async def ended() -> None:
        task = asyncio.create_task(deadline.meet(after(60)))
        await asyncio.sleep(0)
        task.cancel()
        await task

    async def fails() -> None:
        raise ValueError

    assert outcomes(ended(), deadline.meet(fails())) == [
        asyncio.CancelledError,
        ValueError,
    ]
