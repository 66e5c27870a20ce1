"""The load generator of a service, and what benchmarks/ concludes from its answers."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks.load import (
    LOST,
    OK,
    REJECTED,
    Answer,
    BenchError,
    Result,
    arrivals,
    closed_loop,
    open_loop,
    request,
)
from benchmarks.overload import summarise
from benchmarks.serving import free_port
from benchmarks.soak import MIB, Sample, Trend, find_faults

GOOD, BAD, LATE, GONE = (request(b'"%s"' % body) for body in (b"y", b"n", b"w", b"x"))


class Toy(asyncio.Protocol):
    """Answers by the last letter of a body: 200, 503, 200 in two late parts, never."""

    connections = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        Toy.connections += 1

    def data_received(self, data: bytes) -> None:
        letter = data[-2:-1]
        if letter == b"x":
            self._transport.abort()
            return
        status = b"503 Full" if letter == b"n" else b"200 OK"
        answer = b"HTTP/1.1 %s\r\nContent-Length: 4\r\n\r\ngood" % status
        if letter != b"w":
            self._transport.write(answer)
            return
        loop = asyncio.get_running_loop()
        loop.call_later(0.01, self._transport.write, answer[:20])
        loop.call_later(0.02, self._transport.write, answer[20:-2])
        loop.call_later(0.03, self._transport.write, answer[-2:])


@contextmanager
def toy() -> Iterator[int]:
    """Serve on a port of 127.0.0.1, in a thread."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(Toy, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield server.sockets[0].getsockname()[1]
    loop.call_soon_threadsafe(server.close)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_every_answer_of_a_closed_loop_is_counted() -> None:
    with toy() as port:
        result = closed_loop(port, [GOOD, BAD], 2, 0.3)

    statuses = result.statuses()
    assert set(statuses) == {OK, REJECTED}
    assert abs(statuses[OK] - statuses[REJECTED]) <= 2
    assert statuses[OK] > 50
    assert result.rate == pytest.approx(statuses[OK] / result.seconds)
    assert 0.3 <= result.seconds < 3


def test_a_request_may_have_a_connection_of_its_own() -> None:
    before = Toy.connections
    with toy() as port:
        result = closed_loop(port, [GOOD], 2, 0.3, reconnect=True)

    assert set(result.statuses()) == {OK}
    assert len(result.answers) > 20
    assert Toy.connections - before >= len(result.answers)


def test_an_answer_in_parts_is_complete_with_the_last() -> None:
    with toy() as port:
        result = closed_loop(port, [LATE], 3, 0.3)

    assert set(result.statuses()) == {OK}
    assert result.quantile(0.0) >= 0.03
    assert len(result.answers) <= 3 * 11


def test_a_lost_connection_is_counted_and_replaced() -> None:
    with toy() as port:
        result = open_loop(port, [GONE, GOOD], 1, [0.01 * n for n in range(10)])

    assert result.statuses() == {LOST: 5, OK: 5}


def test_an_open_loop_sends_when_requests_are_due() -> None:
    with toy() as port:
        result = open_loop(port, [GOOD], 16, arrivals(200, 1))

    dues = [answer.due for answer in result.answers]
    assert set(result.statuses()) == {OK}
    assert sorted(dues) == list(arrivals(200, 1))
    assert 140 <= len(dues) <= 260 and result.seconds >= max(dues)


def test_a_latency_counts_from_when_the_request_was_due() -> None:
    with toy() as port:
        # One connection, 30 ms an answer: the tenth waits for nine others.
        result = open_loop(port, [LATE], 1, [0.0] * 10)

    assert result.quantile(0.1) < 0.15
    assert result.quantile(1.0) >= 0.3


def test_a_port_without_a_server_is_named() -> None:
    port = free_port()

    with pytest.raises(BenchError, match=f"Port {port} takes no connection"):
        closed_loop(port, [GOOD], 1, 0.1)


def test_quantiles_are_those_of_good_answers() -> None:
    answers = [Answer(0, OK, n / 100) for n in range(1, 101)] + [Answer(0, 503, 9)]
    result = Result(answers, 1.0)

    assert result.quantile(0.5) == 0.5
    assert result.quantile(0.99) == 0.99


def test_a_flood_tells_answered_rejected_and_recovered() -> None:
    flooded = [Answer(0.1, OK if n % 4 else REJECTED, 0.01) for n in range(100)]
    before = [Answer(n / 100, OK, 0.01) for n in range(100)]
    during = [Answer(1 + n / 100, OK if n % 2 else REJECTED, 0.5) for n in range(100)]
    after = [Answer(2 + n / 100, OK, 0.9 if n < 30 else 0.01) for n in range(100)]

    seen = summarise(80, Result(flooded, 1), before + during + after, 1, 2)
    never = summarise(80, Result(flooded, 1), before + during + after[:30], 1, 2)

    assert (seen["peak"], seen["answered"], seen["rejected"]) == (80, 75, 25)
    assert (seen["bystander"], seen["refused"]) == (0.5, 0.5)
    assert seen["recovery"] == 0.3
    assert never["recovery"] is None


def make_samples(mib_an_hour: float, files: int = 14) -> list[Sample]:
    """Samples of ten minutes, with a memory that grows and is noisy."""
    return [
        Sample(5.0 * n, 0.01, int((100 + mib_an_hour * n / 720 + n % 3) * MIB), files)
        for n in range(120)
    ]


def test_a_leak_is_told_from_noise() -> None:
    assert not Trend.of(make_samples(0)).grows
    leak = Trend.of(make_samples(120))
    assert leak.grows
    assert leak.rise / MIB == pytest.approx(120 * 119 / 720, rel=0.05)


def test_a_soak_names_every_fault() -> None:
    leaking = make_samples(120)
    more_files = [*leaking[:-1], make_samples(120, files=40)[-1]]
    statuses = Counter({OK: 1000, 500: 2})

    none = find_faults(make_samples(0), Trend.of(make_samples(0)), Counter({OK: 9}))
    faults = find_faults(more_files, Trend.of(more_files), statuses)

    assert none == []
    assert [fault.split()[0] for fault in faults] == ["Not", "26", "Memory"]
    assert "500: 2" in faults[0]
