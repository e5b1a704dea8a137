"""Fair queue for scarce workers: keys are served round-robin, so that one busy key cannot starve the others."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from server.errors import RateLimited, Unavailable

# The waiters of one key: True if admitted, False if evicted. Ordered, so that any of them is removed in O(1).
Waiters = OrderedDict[asyncio.Future[bool], None]


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
        self._seconds_per_turn = seconds / workers
        self._most_per_key = most_per_key
        self._most_waiting = most_waiting
        self._is_last = is_last
        # The key at the front is served next.
        self._queues: OrderedDict[str, Waiters] = OrderedDict()
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
        waiter = self._enqueue(key)
        try:
            is_admitted = await waiter
        except BaseException:
            if not waiter.done() or waiter.cancelled():
                self._remove(key, waiter)
            elif waiter.result():
                # Admitted and cancelled at the same moment.
                self._leave()
            raise
        if not is_admitted:
            raise _unavailable()

    def _leave(self) -> None:
        self._free += 1
        while self._free and self._queues:
            key = self._next_key()
            queue = self._queues.pop(key)
            waiter, _ = queue.popitem(last=False)
            self._count -= 1
            if queue:
                self._queues[key] = queue
            # A waiter that was just cancelled is done already.
            if not waiter.done():
                self._free -= 1
                waiter.set_result(True)

    def _next_key(self) -> str:
        if self._is_last is not None:
            for key in self._queues:
                if not self._is_last(key):
                    return key
        return next(iter(self._queues))

    def _enqueue(self, key: str) -> asyncio.Future[bool]:
        waiting = len(self._queues.get(key, ()))
        if self._most_per_key is not None and waiting >= self._most_per_key:
            retry_after = waiting * self._seconds_per_turn
            raise RateLimited(
                "Too many of your requests wait already", limit="waiting_requests", retry_after=retry_after
            )
        if self._count >= self._most_waiting:
            self._make_room(key, waiting)
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(key, OrderedDict())[waiter] = None
        self._count += 1
        return waiter

    def _make_room(self, new_key: str, waiting: int) -> None:
        """Evict the last waiter of the longest queue. Raises `Unavailable` if that would be the caller's own queue."""
        is_last = self._is_last or (lambda _key: False)
        key = max(self._queues, key=lambda key: (is_last(key), len(self._queues[key])))
        queue = self._queues[key]
        if (is_last(key), len(queue)) <= (is_last(new_key), waiting + 1):
            raise _unavailable()
        waiter, _ = queue.popitem()
        if not queue:
            del self._queues[key]
        self._count -= 1
        if not waiter.done():
            waiter.set_result(False)

    def _remove(self, key: str, waiter: asyncio.Future[bool]) -> None:
        queue = self._queues.get(key)
        if queue is None or waiter not in queue:
            return
        del queue[waiter]
        self._count -= 1
        if not queue:
            del self._queues[key]


def _unavailable() -> Unavailable:
    return Unavailable("Too many requests wait already")
