"""Turns at work of which little can be done at once: whoever asks for much of it delays nobody but themselves."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from server.errors import RateLimited, Unavailable

# Whether it was let in. Ordered, so that the first, the last and any other leave at the same small cost.
Queue = OrderedDict[asyncio.Future[bool], None]


class FairQueue:
    """At most `workers` turns are taken at once; those who wait are queued by a key, e.g. a user.

    Keys are served in rotation, and within a key whoever came first: a newcomer waits for one turn of each other key
    at most, however many wait there. `most_per_key` may wait under one key (None: no bound), `most_waiting` in all.
    `seconds` is what a turn takes, about: it tells those who are refused when to come again. Keys of which `is_last`
    says so are served when no other waits, and are the first to go where too many do.
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
        """Encloses one piece of work, which begins when it is this one's turn.

        Raises `RateLimited` where too many wait under this key, `Unavailable` where too many wait in all. Of those the
        last of the longest queue has to go, so that a flood under a few keys keeps no other key out.
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
                # Let in and cancelled at the same moment.
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
            # One that was cancelled this moment is done already.
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
        """Make room for one under whose key so many wait. Raises `Unavailable` where no queue would stay as long."""
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
