"""What comes for people without a socket, on its way to their offline queues; it waits while Redis is away."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from server.concurrency.batcher import Batcher
from server.errors import Unavailable
from server.failpoints import AFTER_PUSH, Failpoints
from server.storage.redis.offline_queues import OfflineQueues

log = logging.getLogger(__name__)

MAX_BATCH: Final = 500
# What may wait while Redis is away: some thirty thousand ordinary messages.
MAX_BACKLOG_BYTES: Final = 64 * 1024 * 1024
# What an entry takes beside its payload: itself, its future with whoever waits for that, and its place in the batch.
ENTRY_BYTES: Final = 1536
# For a Redis that answers pings but takes nothing, because its memory is full.
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 5.0


class _Enqueued(NamedTuple):
    user_id: str
    payload: bytes
    # Milliseconds since 1970.
    at: int
    waits_since: float


class OfflineQueueWriter:
    """Keeps the order of `push`. `on_written` is told whose queues have grown.

    What still waits when the server ends, however it ends, the next start finds in the log.
    """

    def __init__(
        self, queues: OfflineQueues, on_written: Callable[[Collection[str]], None], failpoints: Failpoints
    ) -> None:
        self._queues = queues
        self._on_written = on_written
        self._failpoints = failpoints
        self._batches: Batcher[_Enqueued] = Batcher(self._write, max_batch=MAX_BATCH)
        self._last: asyncio.Future[None] | None = None
        self._backlog = 0
        self._is_overfull = False
        self._refused: set[str] = set()
        self._stuck = asyncio.Event()

    def enqueue(self, user_id: str, payload: bytes, at: datetime) -> "asyncio.Future[None]":
        """Queue one message; many pushes share one round trip. It ages from `at`, but not while it waits for Redis.

        Ends once it is written, however long Redis is away, or dropped, because Redis refuses this user's queue alone.
        Raises `Unavailable` where too much waits for that.
        """
        size = len(payload) + ENTRY_BYTES
        if self._backlog + size > MAX_BACKLOG_BYTES:
            return self._refuse()
        self._backlog += size
        enqueued = self._last = self._batches.add(
            _Enqueued(user_id, payload, round(at.timestamp() * 1000), time.monotonic())
        )
        enqueued.add_done_callback(lambda _done: self._forget(size))
        return enqueued

    async def wait_written(self) -> None:
        """Return once everything that was pushed before this call is written, or Redis takes none."""
        if self._last is None or self._last.done():
            return
        stuck = asyncio.ensure_future(self._stuck.wait())
        either: list[asyncio.Future[Any]] = [self._last, stuck]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stuck.cancel()

    async def _write(self, offline_writer: Sequence[_Enqueued]) -> None:
        pause = FIRST_PAUSE
        while True:
            moment = time.monotonic()
            by_user: dict[str, list[tuple[int, bytes]]] = {}
            for push in offline_writer:
                entry = push.at + round((moment - push.waits_since) * 1000), push.payload
                by_user.setdefault(push.user_id, []).append(entry)
            try:
                refused = await self._queues.enqueue(by_user)
                break
            except Unavailable:
                self._stuck.set()
                # What is written twice, because only the answer was lost, is handed over once.
                await asyncio.sleep(pause)
                await self._queues.wait_available()
                pause = min(2 * pause, LONGEST_PAUSE)
        self._stuck.clear()
        self._failpoints.reach(AFTER_PUSH)
        for user_id in refused.keys() - self._refused:
            log.error("the offline queue of %s cannot be written: %s; the log has it all", user_id, refused[user_id])
        self._refused = (self._refused - by_user.keys()) | refused.keys()
        self._on_written(by_user.keys())

    def _refuse(self) -> "asyncio.Future[None]":
        if not self._is_overfull:
            log.error("too much waits for Redis: what comes now for the absent is in the log only")
            self._is_overfull = True
        refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        refused.set_exception(Unavailable("Redis is away"))
        # Who pushes may not want to know.
        refused.exception()
        return refused

    def _forget(self, size: int) -> None:
        self._backlog -= size
        if not self._backlog:
            self._is_overfull = False
