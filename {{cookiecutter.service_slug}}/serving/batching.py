"""Share one call of the model between the requests that wait at the same time.

A call costs about the same for one instance as for a few dozen. So the requests of one
iteration of the event loop share a call. After a call for a single request, the next
request does not wait for others.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Generic, TypeAlias, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")
Outcome: TypeAlias = list[Out] | Exception
Waiting: TypeAlias = tuple[Sequence[In], asyncio.Future[list[Out]]]

MAX_BATCH = 1_000
# A request that takes this many times the shortest input, and more than the inline
# budget, is a long one.
LONG = 8


class Batcher(Generic[In, Out]):
    """Combine the inputs of many callers into few calls of a function.

    `call` returns one output for each input, in the same order.

    A call expected to take at most `inline_budget` seconds runs in the event loop,
    because a thread would cost more than the call. A longer one runs in a worker
    thread, one at a time, while the next batch fills. Requests that take much longer
    than others have a queue and a thread of their own, so that the others do not wait
    for them.

        (label,) = await batcher.submit([instance])
    """

    def __init__(
        self,
        call: Callable[[Sequence[In]], list[Out]],
        expected_seconds: Callable[[Sequence[In]], float],
        inline_budget: float,
    ) -> None:
        self._call = call
        self._expected_seconds = expected_seconds
        self._inline_budget = inline_budget
        self._waiting: deque[Waiting[In, Out]] = deque()
        self._flush_is_due = False
        self._batched = True  # the last call had several requests, or is still to come
        self._shortest = math.inf  # expected seconds of a single input so far
        self._long: deque[Waiting[In, Out]] = deque()
        self._long_is_running = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._long_thread = ThreadPoolExecutor(1, thread_name_prefix="model-long")

    def submit(self, inputs: Sequence[In]) -> asyncio.Future[list[Out]]:
        """Queue inputs. The future gives an output for each, or raises like `call`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Out]] = loop.create_future()
        self._waiting.append((inputs, future))
        if self._flush_is_due:
            return future
        self._flush_is_due = True
        if self._batched:
            loop.call_soon(self._flush)
        else:
            self._flush()
        return future

    def close(self) -> None:
        """Stop the worker threads after their current batches."""
        for thread in (self._thread, self._long_thread):
            thread.shutdown(wait=False, cancel_futures=True)

    def _flush(self) -> None:
        batch = _next_batch(self._waiting)
        if not batch:
            self._flush_is_due = False
            return

        loop = asyncio.get_running_loop()
        self._batched = len(batch) > 1
        inputs = [one for part, _ in batch for one in part]
        try:
            inline = self._expected_seconds(inputs) <= self._inline_budget
        except Exception as error:
            _settle(batch, [error] * len(batch))
            loop.call_soon(self._flush)
            return
        if inline:
            _settle(batch, self._outcomes(batch, inputs))
            loop.call_soon(self._flush)
            return

        short = self._set_long_aside(batch)
        if short:
            self._call_in(self._thread, short, self._flush)
        else:
            loop.call_soon(self._flush)

    def _set_long_aside(self, batch: list[Waiting[In, Out]]) -> list[Waiting[In, Out]]:
        """Start or queue the long requests of a batch, and return the others."""
        seconds = [self._expected_seconds(inputs) for inputs, _ in batch]
        first = [self._expected_seconds(inputs[:1]) for inputs, _ in batch]
        self._shortest = min(self._shortest, *first)
        limit = max(self._inline_budget, LONG * self._shortest)
        pairs = list(zip(batch, seconds, strict=True))
        self._long.extend(one for one, takes in pairs if takes > limit)
        if not self._long_is_running:
            self._flush_long()
        return [one for one, takes in pairs if takes <= limit]

    def _flush_long(self) -> None:
        batch = _next_batch(self._long)
        self._long_is_running = bool(batch)
        if batch:
            self._call_in(self._long_thread, batch, self._flush_long)

    def _call_in(
        self,
        thread: ThreadPoolExecutor,
        batch: list[Waiting[In, Out]],
        then: Callable[[], None],
    ) -> None:
        """Call for a batch in a thread, settle it, and go on with `then`."""

        def on_done(done: asyncio.Future[list[Outcome[Out]]]) -> None:
            if done.cancelled():  # the process is ending
                return
            _settle(batch, done.result())
            then()

        inputs = [one for part, _ in batch for one in part]
        loop = asyncio.get_running_loop()
        call = loop.run_in_executor(thread, self._outcomes, batch, inputs)
        call.add_done_callback(on_done)

    def _outcomes(
        self, batch: list[Waiting[In, Out]], inputs: Sequence[In]
    ) -> list[Outcome[Out]]:
        """Return the outcome of each request. If the call fails, call for each."""
        try:
            answers = iter(self._call(inputs))
        except Exception as error:
            if len(batch) == 1:
                return [error]
            return [self._outcomes([one], one[0])[0] for one in batch]
        return [list(islice(answers, len(part))) for part, _ in batch]


def _next_batch(waiting: deque[Waiting[In, Out]]) -> list[Waiting[In, Out]]:
    batch: list[Waiting[In, Out]] = []
    size = 0
    while waiting:
        inputs, future = waiting[0]
        if batch and size + len(inputs) > MAX_BATCH:
            break
        waiting.popleft()
        if future.done():  # its request was cancelled
            continue
        batch.append((inputs, future))
        size += len(inputs)
    return batch


def _settle(batch: list[Waiting[In, Out]], outcomes: list[Outcome[Out]]) -> None:
    for (_, future), outcome in zip(batch, outcomes, strict=True):
        if future.done():  # its request was cancelled
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
