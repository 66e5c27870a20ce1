"""Bodies are worked on a few at a time; the others wait as the bytes that came.

A request that is parsed takes several times its bytes. Many large ones at once no
longer fit the caches of the processor, which costs a tenth of the rate and more, and
memory for all of them.
"""

import asyncio
from collections import deque

# So many may always be in work, for the model's calls to be shared; more, as long as
# they are small together: about what the fastest cache of a core holds.
FEW = 8
SMALL = 32_768  # bytes


class Turns:
    """First come, first served. It serves one event loop."""

    def __init__(self) -> None:
        self._count = 0
        self._bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int) -> bool:
        """Have the turn of a body of this size; `give_back` ends it.

        True if it had to be waited for.
        """
        if not self._waiting and self._has_room(size):
            self._begin(size)
            return False
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it came at the same moment
                self._end(size)
            self._next()
            raise
        return True

    def give_back(self, size: int) -> None:
        """The body is done with: those that wait may have their turn."""
        self._end(size)
        if self._waiting:
            self._next()

    def _next(self) -> None:
        while self._waiting:
            size, turn = self._waiting[0]
            if turn.cancelled():
                self._waiting.popleft()
                continue
            if not self._has_room(size):
                return
            self._waiting.popleft()
            self._begin(size)
            turn.set_result(None)

    def _has_room(self, size: int) -> bool:
        return self._count < FEW or self._bytes + size <= SMALL

    def _begin(self, size: int) -> None:
        self._count += 1
        self._bytes += size

    def _end(self, size: int) -> None:
        self._count -= 1
        self._bytes -= size
