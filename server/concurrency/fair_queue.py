"""Fair queue for scarce workers: keys are served round-robin, so that one busy key cannot starve the others."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from server.errors import RateLimited, Unavailable

# The waiters of one key: True if admitted, False if evicted. Ordered, so that any of them is removed in O(1).
Queue = OrderedDict[asyncio.Future[bool], None]


class FairQueue:
    """At most `workers` callers work at once. The others wait in one FIFO queue per key, e.g. per user.

    Keys are served in rotation: the first caller of a key waits for at most one turn of each other key. At most
    `most_per_key` callers wait under one key (None: no bound), and `most_waiting` in all. `seconds` is the usual length
    of a turn, from which `retry_after` is computed. Keys for which `is_last` is true have low priority: they are served
    when no other key waits, and evicted first.
    """

    def __init__(
        self,
        workers: int,
        *,
        most_per_key: int | None,
        most_waiting: int,
        seconds: float,
        is_last: Callable[[str], bool] | None = None,
    ) -> None:
        self._free = workers
        self._pace = seconds / workers
        self._most_per_key = most_per_key
        self._most_waiting = most_waiting
        self._is_last = is_last
        # The key at the front is served next.
        self._queues: OrderedDict[str, Queue] = OrderedDict()
        self._count = 0

    @asynccontextmanager
    async def take(self, key: str) -> AsyncIterator[None]:
        """Run the body of `async with` when it is this caller's turn.

        Raises `RateLimited` if too many callers wait under this key, `Unavailable` if too many wait in all. The latter
        evicts the last waiter of the longest queue, so that a flood under a few keys keeps no other key out.
        """
        await self._enter(key)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, key: str) -> None:
        if self._free:
            self._free -= 1
            return
        place = self._queue_up(key)
        try:
            is_let_in = await place
        except BaseException:
            if not place.done() or place.cancelled():
                self._forget(key, place)
            elif place.result():
                # Admitted and cancelled at the same moment.
                self._leave()
            raise
        if not is_let_in:
            raise _unavailable()

    def _leave(self) -> None:
        self._free += 1
        while self._free and self._queues:
            key = self._next_key()
            queue = self._queues.pop(key)
            place, _ = queue.popitem(last=False)
            self._count -= 1
            if queue:
                self._queues[key] = queue
            # A waiter that was just cancelled is done already.
            if not place.done():
                self._free -= 1
                place.set_result(True)

    def _next_key(self) -> str:
        if self._is_last is not None:
            for key in self._queues:
                if not self._is_last(key):
                    return key
        return next(iter(self._queues))

    def _queue_up(self, key: str) -> asyncio.Future[bool]:
        waiting = len(self._queues.get(key, ()))
        if self._most_per_key is not None and waiting >= self._most_per_key:
            raise RateLimited("Too many of your requests wait already", retry_after=waiting * self._pace)
        if self._count >= self._most_waiting:
            self._send_one_away(key, waiting)
        place: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(key, OrderedDict())[place] = None
        self._count += 1
        return place

    def _send_one_away(self, comer: str, waiting: int) -> None:
        """Evict the last waiter of the longest queue. Raises `Unavailable` if that would be the caller's own queue."""
        is_last = self._is_last or (lambda _key: False)
        key = max(self._queues, key=lambda key: (is_last(key), len(self._queues[key])))
        queue = self._queues[key]
        if (is_last(key), len(queue)) <= (is_last(comer), waiting + 1):
            raise _unavailable()
        place, _ = queue.popitem()
        if not queue:
            del self._queues[key]
        self._count -= 1
        if not place.done():
            place.set_result(False)

    def _forget(self, key: str, place: asyncio.Future[bool]) -> None:
        queue = self._queues.get(key)
        if queue is None or place not in queue:
            return
        del queue[place]
        self._count -= 1
        if not queue:
            del self._queues[key]


def _unavailable() -> Unavailable:
    return Unavailable("Too many requests wait already")
