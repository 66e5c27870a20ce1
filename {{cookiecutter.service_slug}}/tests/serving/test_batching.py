"""Requests that wait at the same moment share one call of the model."""

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from app.contract import Instance
from serving.batching import MAX_BATCH, Batcher
from serving.model import Classified


class CountingModel:
    """Gives each instance its text as the label, and the length as the score."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.threads: set[str] = set()

    def classify(self, instances: Sequence[Instance]) -> list[Classified]:
        self.calls.append(len(instances))
        self.threads.add(threading.current_thread().name)
        if any(instance.text == "bad" for instance in instances):
            raise RuntimeError("bad")
        none = np.empty(0, np.float32)
        return [Classified(i.text, len(i.text), none) for i in instances]


def instances(*texts: str) -> list[Instance]:
    return [Instance(text=text) for text in texts]


def gather(
    batcher: Batcher[Instance, Classified], *requests: list[Instance]
) -> list[list[float]]:
    """Submit all requests in one turn of the event loop."""

    async def run() -> list[list[float]]:
        answers = await asyncio.gather(*[batcher.submit(part) for part in requests])
        return [[score for _, score, _ in answer] for answer in answers]

    return asyncio.run(run())


@pytest.mark.parametrize("seconds", [0.0, 1.0], ids=["inline", "thread"])
def test_requests_of_one_moment_share_a_call(seconds: float) -> None:
    model = CountingModel()
    batcher = Batcher(model.classify, lambda _: seconds, inline_budget=0.5)

    answers = gather(batcher, instances("a", "bb"), instances("ccc"), instances("d"))

    assert answers == [[1, 2], [3], [1]]
    assert model.calls == [4]


def test_a_request_that_is_alone_does_not_wait_for_others() -> None:
    model = CountingModel()
    batcher = Batcher(model.classify, lambda _: 0, inline_budget=1)

    async def run() -> tuple[bool, bool]:
        first = batcher.submit(instances("a"))
        second = batcher.submit(instances("b"))
        await asyncio.gather(first, second)
        await batcher.submit(instances("c"))
        await asyncio.sleep(0)
        alone = batcher.submit(instances("d"))
        together = batcher.submit(instances("e"))
        answered = alone.done(), together.done()
        await together
        return answered

    assert asyncio.run(run()) == (True, False)
    assert model.calls == [2, 1, 1, 1]


def test_a_fast_model_runs_in_the_event_loop_and_a_slow_one_beside_it() -> None:
    fast, slow = CountingModel(), CountingModel()

    def expect(batch: Sequence[Instance]) -> float:
        return 0.001 * sum(len(instance.text) for instance in batch)

    gather(Batcher(fast.classify, expect, inline_budget=0.005), instances("a"))
    gather(Batcher(slow.classify, expect, inline_budget=0.005), instances("a" * 6))

    assert fast.threads == {"MainThread"}
    assert slow.threads == {"model_0"}


def test_a_batch_has_a_largest_size() -> None:
    model = CountingModel()
    part = instances(*["a"] * 400)

    gather(Batcher(model.classify, lambda _: 0, inline_budget=1), part, part, part)

    assert model.calls == [800, 400]
    assert max(model.calls) <= MAX_BATCH


@pytest.mark.parametrize("seconds", [0.0, 1.0], ids=["inline", "thread"])
def test_a_failure_reaches_its_callers_and_the_next_are_served(
    seconds: float,
) -> None:
    model = CountingModel()
    batcher = Batcher(model.classify, lambda _: seconds, inline_budget=0.5)

    async def run() -> list[Classified]:
        with pytest.raises(RuntimeError, match="bad"):
            await batcher.submit(instances("bad"))
        return await batcher.submit(instances("good"))

    assert [label for label, *_ in asyncio.run(run())] == ["good"]


@pytest.mark.parametrize("seconds", [0.0, 1.0], ids=["inline", "thread"])
def test_a_request_that_makes_the_model_fail_fails_alone(seconds: float) -> None:
    model = CountingModel()
    batcher = Batcher(model.classify, lambda _: seconds, inline_budget=0.5)

    async def run() -> list[object]:
        parts = [instances("a", "b"), instances("bad"), instances("c")]
        waiting = [batcher.submit(part) for part in parts]
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        return [
            outcome if isinstance(outcome, Exception) else [o.label for o in outcome]
            for outcome in outcomes
            if not isinstance(outcome, BaseException) or isinstance(outcome, Exception)
        ]

    first, bad, last = asyncio.run(run())
    assert (first, last) == (["a", "b"], ["c"])
    assert isinstance(bad, RuntimeError)


def test_a_size_that_cannot_be_told_fails_and_the_next_are_served() -> None:
    model = CountingModel()
    batcher = Batcher(model.classify, lambda some: 1 / (len(some[0].text) - 3), 1)

    async def run() -> list[Classified]:
        async with asyncio.timeout(10):
            with pytest.raises(ZeroDivisionError):
                await batcher.submit(instances("odd"))
            return await batcher.submit(instances("good"))

    assert [label for label, *_ in asyncio.run(run())] == ["good"]


def test_a_client_that_has_gone_costs_nothing() -> None:
    model = CountingModel()
    batcher = Batcher(model.classify, lambda _: 0, inline_budget=1)

    async def run() -> None:
        gone = batcher.submit(instances("gone"))
        gone.cancel()
        await batcher.submit(instances("here"))

    asyncio.run(run())
    assert model.calls == [1]
