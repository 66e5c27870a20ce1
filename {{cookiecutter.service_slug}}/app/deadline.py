"""A time limit for many at once, with one timer.

`asyncio.timeout` sets a timer for each request: a tenth of what a small one costs.
"""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")


class Deadline:
    """Whatever is awaited through it is cancelled `seconds` after its start.

    It serves one event loop.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        # The tasks that wait, in the order of their deadlines.
        self._waiting: dict[asyncio.Task[Any], float] = {}
        self._overdue: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def meet(self, awaitable: Awaitable[T]) -> T:
        """Await it in the current task. Raises TimeoutError if it takes too long."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None  # a coroutine runs in a task
        self._waiting[task] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._look, loop)
        try:
            return await awaitable
        except asyncio.CancelledError:
            if task not in self._overdue or task.uncancel() > 0:
                raise  # somebody else ends the task
            raise TimeoutError from None
        finally:
            self._waiting.pop(task, None)
            self._overdue.discard(task)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """End what is overdue, and come back for the next."""
        self._timer = None
        now = loop.time()
        for task, due in list(self._waiting.items()):
            if due > now:
                self._timer = loop.call_at(due, self._look, loop)
                return
            del self._waiting[task]
            self._overdue.add(task)
            task.cancel()
