"""Requests that wait at the same moment share one call of the model."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from serving.batching import MAX_BATCH, Batcher
from serving.model import Answer
from tests.serving.toy import Claim


class CountingModel:
    """Gives each claim its note as the label, and the length as the score."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.threads: set[str] = set()

    def answer(self, claims: Sequence[Claim]) -> list[Answer]:
        self.calls.append(len(claims))
        self.threads.add(threading.current_thread().name)
        if any(claim.note == "bad" for claim in claims):
            raise RuntimeError("bad")
        return [Answer(claim.note, len(claim.note)) for claim in claims]


def claims(*notes: str) -> list[Claim]:
    return [Claim(note=note) for note in notes]


def gather(
    batcher: Batcher[Claim, Answer], *requests: list[Claim]
) -> list[list[float]]:
    """Submit all requests in one turn of the event loop."""

    async def run() -> list[list[float]]:
        answers = await asyncio.gather(*[batcher.submit(part) for part in requests])
        return [[each.score or 0 for each in answer] for answer in answers]

    return asyncio.run(run())


@pytest.mark.parametrize("seconds", [0.0, 1.0], ids=["inline", "thread"])
def test_requests_of_one_moment_share_a_call(seconds: float) -> None:
    model = CountingModel()
    batcher = Batcher(model.answer, lambda _: seconds, inline_budget=0.5)

    answers = gather(batcher, claims("a", "bb"), claims("ccc"), claims("d"))

    assert answers == [[1, 2], [3], [1]]
    assert model.calls == [4]


def test_a_request_that_is_alone_does_not_wait_for_others() -> None:
    model = CountingModel()
    batcher = Batcher(model.answer, lambda _: 0, inline_budget=1)

    async def run() -> tuple[bool, bool]:
        first = batcher.submit(claims("a"))
        second = batcher.submit(claims("b"))
        await asyncio.gather(first, second)
        await batcher.submit(claims("c"))
        await asyncio.sleep(0)
        alone = batcher.submit(claims("d"))
        together = batcher.submit(claims("e"))
        answered = alone.done(), together.done()
        await together
        return answered

    assert asyncio.run(run()) == (True, False)
    assert model.calls == [2, 1, 1, 1]


def test_a_fast_model_runs_in_the_event_loop_and_a_slow_one_beside_it() -> None:
    fast, slow = CountingModel(), CountingModel()

    def expect(batch: Sequence[Claim]) -> float:
        return 0.001 * sum(len(claim.note) for claim in batch)

    gather(Batcher(fast.answer, expect, inline_budget=0.005), claims("a"))
    gather(Batcher(slow.answer, expect, inline_budget=0.005), claims("a" * 6))

    assert fast.threads == {"MainThread"}
    assert slow.threads == {"model_0"}


def test_requests_beyond_the_largest_batch_wait_for_the_next() -> None:
    model = CountingModel()
    part = claims(*["a"] * 400)

    gather(Batcher(model.answer, lambda _: 0, inline_budget=1), part, part, part)

    assert model.calls == [800, 400]
    assert max(model.calls) <= MAX_BATCH


@pytest.mark.parametrize("seconds", [0.0, 1.0], ids=["inline", "thread"])
def test_a_failure_reaches_its_callers_and_the_next_are_served(
    seconds: float,
) -> None:
    model = CountingModel()
    batcher = Batcher(model.answer, lambda _: seconds, inline_budget=0.5)

    async def run() -> list[Answer]:
        with pytest.raises(RuntimeError, match="bad"):
            await batcher.submit(claims("bad"))
        return await batcher.submit(claims("good"))

    assert [label for label, *_ in asyncio.run(run())] == ["good"]


@pytest.mark.parametrize("seconds", [0.0, 1.0], ids=["inline", "thread"])
def test_a_request_that_makes_the_model_fail_fails_alone(seconds: float) -> None:
    model = CountingModel()
    batcher = Batcher(model.answer, lambda _: seconds, inline_budget=0.5)

    async def run() -> list[object]:
        parts = [claims("a", "b"), claims("bad"), claims("c")]
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


def test_a_failing_estimate_fails_its_requests_and_the_next_are_served() -> None:
    model = CountingModel()
    batcher = Batcher(model.answer, lambda some: 1 / (len(some[0].note) - 3), 1)

    async def run() -> list[Answer]:
        async with asyncio.timeout(10):
            with pytest.raises(ZeroDivisionError):
                await batcher.submit(claims("odd"))
            return await batcher.submit(claims("good"))

    assert [label for label, *_ in asyncio.run(run())] == ["good"]


def test_a_cancelled_request_costs_no_prediction() -> None:
    model = CountingModel()
    batcher = Batcher(model.answer, lambda _: 0, inline_budget=1)

    async def run() -> None:
        gone = batcher.submit(claims("gone"))
        gone.cancel()
        await batcher.submit(claims("here"))

    asyncio.run(run())
    assert model.calls == [1]


def test_a_short_request_does_not_wait_for_long_ones() -> None:
    release = threading.Event()
    model = CountingModel()

    def answer(some: Sequence[Claim]) -> list[Answer]:
        if len(some) > 1:
            assert release.wait(timeout=20)
        return model.answer(some)

    batcher = Batcher(answer, lambda some: 0.001 * len(some), inline_budget=0.005)

    async def run() -> None:
        async with asyncio.timeout(20):
            long = [batcher.submit(claims(*["a"] * 600)) for _ in range(3)]
            await batcher.submit(claims("b"))
            together = batcher.submit(claims("c"))
            long.append(batcher.submit(claims(*["d"] * 400)))
            await together
            assert not any(future.done() for future in long)
            release.set()
            await asyncio.gather(*long)

    asyncio.run(run())
    # Long ones share a call, too, and the model has one of them at a time.
    assert model.calls == [1, 1, 600, 600, 1_000]
