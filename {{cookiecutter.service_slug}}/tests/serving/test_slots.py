"""Few bodies of a size are worked on at once, in the order in which they came."""

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serving.admission import MIN_SLOTS, SLOT_SECONDS, SMALL_BYTES, Admission, Slots
from serving.settings import ServingSettings
from serving.testing import wait_until
from tests.serving.conftest import PATH

BODY = {"claims": [{"note": "a dent in the left door"}] * 1_000}


async def settled() -> None:
    """Let every task go as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


class Work:
    """Bodies of given sizes: they begin as they get their turn, and end when told."""

    def __init__(self, slots: Slots) -> None:
        self.begun: list[str] = []
        self._slots = slots
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Event] = {}

    async def add(self, name: str, size: int) -> None:
        self._ends[name] = asyncio.Event()
        self._tasks[name] = asyncio.create_task(self._do(name, size))
        await settled()

    async def end(self, *names: str) -> None:
        for name in names:
            self._ends[name].set()
        await settled()

    async def cancel(self, name: str) -> None:
        self._tasks[name].cancel()
        await settled()

    async def _do(self, name: str, size: int) -> None:
        try:
            if turn := self._slots.take(name, size):
                await turn
            self.begun.append(name)
            await self._ends[name].wait()
        finally:
            self._slots.release(name)


@pytest.fixture
def few() -> list[str]:
    """Names of as many as may always be in work."""
    return [f"{number} of a few" for number in range(MIN_SLOTS)]


def test_more_than_a_few_large_ones_wait_in_order(few: list[str]) -> None:
    async def run() -> None:
        work = Work(Slots())
        for name in [*few, "first", "second"]:
            await work.add(name, SMALL_BYTES)
        assert work.begun == few

        await work.end(few[0])
        assert work.begun == [*few, "first"]
        await work.end(few[1])
        assert work.begun == [*few, "first", "second"]

    asyncio.run(run())


async def behind_a_large_one(few: list[str]) -> Work:
    """A few small ones that work, and a large and a small one that wait."""
    work = Work(Slots())
    for name in few:
        await work.add(name, 1)
    await work.add("large", SMALL_BYTES)
    await work.add("small", 1)
    assert work.begun == few
    return work


def test_a_small_one_does_not_overtake_a_large_one(few: list[str]) -> None:
    async def run() -> None:
        work = await behind_a_large_one(few)

        await work.end(few[0])
        assert work.begun == [*few, "large"]

    asyncio.run(run())


def test_many_small_bodies_have_slots_at_once() -> None:
    async def run() -> None:
        work = Work(Slots())
        for number in range(100):
            await work.add(f"{number}", SMALL_BYTES // 100)
        assert len(work.begun) == 100

        await work.add("too much", SMALL_BYTES)
        assert len(work.begun) == 100
        await work.end(*map(str, range(100)))
        assert work.begun[-1] == "too much"

    asyncio.run(run())


def test_a_request_that_is_cancelled_frees_its_slot(few: list[str]) -> None:
    async def run() -> None:
        work = Work(Slots())
        for name in [*few, "leaves", "stays", "last"]:
            await work.add(name, SMALL_BYTES)

        await work.cancel("leaves")
        await work.cancel(few[0])
        assert work.begun == [*few, "stays"]
        await work.end(*few[1:])
        assert work.begun == [*few, "stays", "last"]

    asyncio.run(run())


def test_cancelling_the_first_in_line_lets_the_next_begin(few: list[str]) -> None:
    async def run() -> None:
        work = await behind_a_large_one(few)

        await work.cancel("large")
        assert work.begun == [*few, "small"]

    asyncio.run(run())


def test_a_slot_given_to_a_request_that_was_cancelled_goes_to_the_next() -> None:
    async def run() -> None:
        slots = Slots()
        for number in range(MIN_SLOTS):
            slots.take(number, SMALL_BYTES)
        leaves, stays = (slots.take(name, SMALL_BYTES) for name in ("leaves", "stays"))
        assert leaves and stays

        slots.release(0)  # the first has it, and does not know it yet
        slots.release("leaves")
        assert leaves.done() and stays.done()

    asyncio.run(run())


def test_a_holder_that_works_too_long_loses_its_slot() -> None:
    async def run() -> None:
        work = Work(Slots())
        for number in range(MIN_SLOTS):
            await work.add(f"waits for a database {number}", SMALL_BYTES)
        await work.add("predicts", SMALL_BYTES)
        assert "predicts" not in work.begun

        await asyncio.sleep(2.1 * SLOT_SECONDS)
        assert work.begun[-1] == "predicts"

    asyncio.run(run())


@pytest.fixture
def working(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A number for each request that was parsed; they go on once it is cleared."""
    working: list[int] = []

    async def wait(claims: list[object]) -> list[object]:
        working.append(len(claims))
        async with asyncio.timeout(20):
            while working:
                await asyncio.sleep(0.01)
        return []

    monkeypatch.setattr("serving.batching.Batcher.submit", lambda _, some: wait(some))
    return working


def test_a_client_that_left_before_its_turn_costs_no_prediction(
    client: TestClient, working: list[int]
) -> None:
    app: Any = client.app
    sent: list[Any] = []
    body = json.dumps(BODY).encode()
    slots: Slots = app.state.service.admission.slots_for(len(body))
    messages: list[Any] = [
        {"type": "http.request", "body": body},
        {"type": "http.disconnect"},
    ]
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
    ]
    scope = {"type": "http", "method": "POST", "path": PATH}

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    async def run() -> None:
        for number in range(MIN_SLOTS):
            slots.take(number, SMALL_BYTES)
        request = asyncio.create_task(app(scope | {"headers": headers}, receive, send))
        await settled()
        for number in range(MIN_SLOTS):
            slots.release(number)
        await request

    assert client.portal
    client.portal.call(run)
    assert not working
    assert b"left while it waited for a slot" in sent[1]["body"]


def test_the_service_parses_few_large_bodies_at_once(
    client: TestClient, working: list[int]
) -> None:
    with ThreadPoolExecutor(2 * MIN_SLOTS) as clients:
        answers = [
            clients.submit(client.post, PATH, json=BODY) for _ in range(2 * MIN_SLOTS)
        ]
        wait_until(lambda: len(working) >= MIN_SLOTS)
        time.sleep(0.2)  # for one more
        most = len(working)
        while not all(answer.done() for answer in answers):
            working.clear()
            time.sleep(0.01)

    assert most == MIN_SLOTS
    assert [answer.result().status_code for answer in answers] == [200] * 2 * MIN_SLOTS


def test_a_small_body_does_not_wait_for_large_ones() -> None:
    async def run() -> None:
        admission = Admission(ServingSettings())
        large = admission.slots_for(1_000_000)
        for number in range(MIN_SLOTS):
            assert large.take(number, 1_000_000) is None

        assert admission.slots_for(900_000).take("alike", 900_000) is not None
        assert admission.slots_for(60).take("small", 60) is None

    asyncio.run(run())
