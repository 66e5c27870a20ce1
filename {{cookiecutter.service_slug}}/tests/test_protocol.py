"""The bytes on the wire: an answer is one packet, whatever kind of answer it is."""

import asyncio

import pytest

from app.protocol import HeadHolder

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


class Wire(asyncio.Transport):
    """A transport that keeps each write apart."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.writes.append(data)

    def close(self) -> None:
        self.writes.append(b"closed")

    def is_closing(self) -> bool:
        return False


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def holder(wire: Wire) -> HeadHolder:
    return HeadHolder(wire)


def test_the_head_goes_out_with_the_body(wire: Wire, holder: HeadHolder) -> None:
    for data in (HEAD, b"{}", HEAD, b"[]"):
        holder.write(data)

    assert wire.writes == [HEAD + b"{}", HEAD + b"[]"]


def test_a_stream_goes_on_as_it_comes(wire: Wire, holder: HeadHolder) -> None:
    for data in (HEAD, b"a", b"b"):
        holder.write(data)

    assert wire.writes == [HEAD + b"a", b"b"]


def test_a_head_without_a_body_goes_out_at_the_end(
    wire: Wire, holder: HeadHolder
) -> None:
    holder.write(HEAD)
    assert not wire.writes

    holder.release()
    holder.release()
    holder.write(HEAD)
    holder.close()

    assert wire.writes == [HEAD, HEAD, b"closed"]


def test_a_client_that_waits_to_be_asked_for_the_body_is_asked(
    wire: Wire, holder: HeadHolder
) -> None:
    holder.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    assert wire.writes == [b"HTTP/1.1 100 Continue\r\n\r\n"]


def test_all_else_is_the_transports(holder: HeadHolder) -> None:
    assert not holder.is_closing()
