"""The one Redis client: short waits, and `Unavailable` at once while Redis is away."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any, Final, TypeVar

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from server.errors import Unavailable

log = logging.getLogger(__name__)
T = TypeVar("T")

CALL_TIMEOUT: Final = 1.0
PROBE_INTERVAL: Final = 0.25
# Calls under way at once. Those beyond wait for their turn, which says nothing about whether Redis answers.
MAX_CALLS: Final = 32
MAX_PINGS: Final = 8


class RedisStore:
    """What Redis holds may be lost without losing a message, so its absence is an error only to those who must know.

    `run` refuses at once while Redis is away: a dead Redis must not slow down the living parts. `wait_available` is
    for work that can wait.
    """

    def __init__(self, url: str) -> None:
        pool: Any = redis.ConnectionPool.from_url(
            url,
            max_connections=MAX_CALLS + MAX_PINGS,
            socket_timeout=CALL_TIMEOUT,
            socket_connect_timeout=CALL_TIMEOUT,
            # One retry, because a pooled connection may have died with an earlier Redis.
            retry=Retry(NoBackoff(), 1),
        )
        self.client: Any = redis.Redis.from_pool(pool)
        self._probe: asyncio.Task[None] | None = None
        self._available = asyncio.Event()
        self._available.set()
        self._turns = asyncio.Semaphore(MAX_CALLS)

    @property
    def is_available(self) -> bool:
        return self._available.is_set()

    async def wait_available(self) -> None:
        await self._available.wait()

    async def run(self, call: Awaitable[T]) -> T:
        """Await one Redis call. Raises `Unavailable` when Redis does not answer."""
        async with self._turns:
            if not self._available.is_set():
                if asyncio.iscoroutine(call):
                    call.close()
                raise Unavailable("Redis is away")
            try:
                return await call
            # The event loop says RuntimeError where the connection was closed just before it was written to.
            except (RedisError, OSError, TimeoutError, RuntimeError) as error:
                self._lose(error)
                raise Unavailable("Redis is away") from error

    async def ping(self) -> bool:
        """Whether Redis answers a ping now."""
        try:
            return bool(await self.client.ping())
        except Exception:
            # Whatever it is, who probes must go on probing.
            return False

    async def close(self) -> None:
        if self._probe is not None:
            self._probe.cancel()
        await self.client.aclose(close_connection_pool=True)

    def _lose(self, error: BaseException) -> None:
        if self._available.is_set():
            log.warning("Redis is away: %s", type(error).__name__)
            self._available.clear()
            self._probe = asyncio.get_running_loop().create_task(self._probe_until_back())

    async def _probe_until_back(self) -> None:
        while not await self.ping():
            await asyncio.sleep(PROBE_INTERVAL)
        log.warning("Redis is back")
        self._available.set()
