"""Offline-queue writer: buffers messages for offline users and writes them to Redis in batches."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from server.concurrency.batcher import Batcher
from server.errors import Unavailable
from server.failpoints import AFTER_ENQUEUE, Failpoints
from server.storage.redis.offline_queues import OfflineQueues

log = logging.getLogger(__name__)

MAX_BATCH: Final = 500
# Buffer limit while Redis is unavailable: about 30,000 ordinary messages.
MAX_BUFFERED_BYTES: Final = 64 * 1024 * 1024
# Memory of a buffered message besides its payload: the tuple, its future and callbacks, and its slot in the batch.
ENTRY_BYTES: Final = 1536
# Retry delays in seconds, for a Redis that answers pings but refuses writes because its memory is full.
MIN_RETRY_DELAY: Final = 0.05
MAX_RETRY_DELAY: Final = 5.0


class _Enqueued(NamedTuple):
    user_id: str
    payload: bytes
    # Unix time in milliseconds.
    at: int
    # Monotonic time in seconds.
    buffered_at: float


class OfflineQueueWriter:
    """Writes in the order of `enqueue`. `on_written` gets the users whose queues were written.

    If the server ends before messages are written, recovery at the next start finds them in the log.
    """

    def __init__(
        self, queues: OfflineQueues, on_written: Callable[[Collection[str]], None], failpoints: Failpoints
    ) -> None:
        self._queues = queues
        self._on_written = on_written
        self._failpoints = failpoints
        self._batches: Batcher[_Enqueued] = Batcher(self._write, max_batch=MAX_BATCH)
        self._last: asyncio.Future[None] | None = None
        self._buffered = 0
        self._is_full = False
        self._refused: set[str] = set()
        self._stalled = asyncio.Event()

    @property
    def waiting_bytes(self) -> int:
        """The size of what is not written yet."""
        return self._buffered

    def enqueue(self, user_id: str, payload: bytes, at: datetime) -> "asyncio.Future[None]":
        """Queue one message; calls share round trips. Its age counts from `at`, without the time in the buffer.

        The future completes once the message is written, or dropped because Redis refuses this user's queue. It fails
        with `Unavailable` if the buffer is full. Callers may ignore it.
        """
        size = len(payload) + ENTRY_BYTES
        if self._buffered + size > MAX_BUFFERED_BYTES:
            return self._reject()
        self._buffered += size
        enqueued = self._last = self._batches.add(
            _Enqueued(user_id, payload, round(at.timestamp() * 1000), time.monotonic())
        )
        enqueued.add_done_callback(lambda _done: self._free(size))
        return enqueued

    async def wait_written(self) -> None:
        """Return once everything that was enqueued before this call is written, or Redis refuses writes."""
        if self._last is None or self._last.done():
            return
        stalled = asyncio.ensure_future(self._stalled.wait())
        either: list[asyncio.Future[Any]] = [self._last, stalled]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stalled.cancel()

    async def _write(self, batch: Sequence[_Enqueued]) -> None:
        delay = MIN_RETRY_DELAY
        while True:
            moment = time.monotonic()
            by_user: dict[str, list[tuple[int, bytes]]] = {}
            for item in batch:
                entry = item.at + round((moment - item.buffered_at) * 1000), item.payload
                by_user.setdefault(item.user_id, []).append(entry)
            try:
                refused = await self._queues.enqueue(by_user)
                break
            except Unavailable:
                self._stalled.set()
                # The write may have succeeded; duplicates are dropped when flushed.
                await asyncio.sleep(delay)
                await self._queues.wait_available()
                delay = min(2 * delay, MAX_RETRY_DELAY)
        self._stalled.clear()
        self._failpoints.reach(AFTER_ENQUEUE)
        for user_id in refused.keys() - self._refused:
            log.error("offline queue not writable user=%s error=%s", user_id, refused[user_id])
        self._refused = (self._refused - by_user.keys()) | refused.keys()
        self._on_written(by_user.keys())

    def _reject(self) -> "asyncio.Future[None]":
        if not self._is_full:
            log.error("offline queue buffer full, new messages for offline users are in the log only")
            self._is_full = True
        rejected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        rejected.set_exception(Unavailable("Redis is away"))
        # Marks the exception as retrieved: callers may ignore the future.
        rejected.exception()
        return rejected

    def _free(self, size: int) -> None:
        self._buffered -= size
        if not self._buffered:
            self._is_full = False
