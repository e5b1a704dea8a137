"""The one Redis client: short waits, and `Unavailable` at once while Redis is away."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable
from contextvars import Context
from typing import Any, Final, TypeVar

import redis.asyncio as redis
from redis import exceptions as redis_errors
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from server.errors import Unavailable, Unusable

log = logging.getLogger(__name__)
T = TypeVar("T")

CALL_TIMEOUT: Final = 1.0
PROBE_INTERVAL: Final = 0.25
# Calls under way at once. Those beyond wait for their turn, which says nothing about whether Redis answers.
MAX_CALLS: Final = 32
MAX_PINGS: Final = 8
POLICY: Final = "maxmemory-policy"
KEEPS_ALL: Final = "noeviction"
# How often it is said that Redis is full.
FULL_INTERVAL: Final = 60.0

# Of the errors that Redis answers with, those that it would give to anybody just now: it takes nothing, or not from us.
AWAY_ERRORS: Final = (
    redis_errors.ReadOnlyError,
    redis_errors.NoPermissionError,
    redis_errors.ClusterDownError,
    redis_errors.TryAgainError,
    redis_errors.AuthenticationWrongNumberOfArgsError,
)
# The same, where the driver has no class: the disk is full, replicas are missing, a script runs.
AWAY_CODES: Final = frozenset({"MISCONF", "NOREPLICAS", "BUSY"})


class RedisClient:
    """What Redis holds may be lost without losing a message, so its absence is an error only to those who must know.

    `run` refuses at once while Redis is away: a dead Redis must not slow down the living parts. `wait_available` is
    for work that can wait. All keys begin with `prefix`, so that other programs may use the same Redis.
    """

    def __init__(self, url: str, prefix: str) -> None:
        self._prefix = prefix
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
        # How often it has been away.
        self.losses = 0
        self._available = asyncio.Event()
        self._available.set()
        self._turns = asyncio.Semaphore(MAX_CALLS)
        self._refusals: set[str] = set()
        self._said_full_at: float | None = None

    def key(self, name: str) -> str:
        """The whole name of a key."""
        return f"{self._prefix}:{name}"

    @property
    def is_available(self) -> bool:
        return self._available.is_set()

    async def wait_available(self) -> None:
        await self._available.wait()

    async def run(self, call: Awaitable[T]) -> T:
        """Await one Redis call. Raises `Unavailable` while Redis is away, and `Unusable` where it refuses this call."""
        async with self._turns:
            if not self._available.is_set():
                if asyncio.iscoroutine(call):
                    call.close()
                raise Unavailable("Redis is away")
            try:
                return await call
            # The event loop says RuntimeError where the connection was closed just before it was written to.
            except redis_errors.OutOfMemoryError as error:
                self._note_full()
                raise Unavailable("Redis is full") from error
            except (redis_errors.RedisError, OSError, TimeoutError, RuntimeError) as error:
                if _means_away(error):
                    self._lose(error)
                    raise Unavailable("Redis is away") from error
                code = code_of(error)
                if code not in self._refusals:
                    self._refusals.add(code)
                    log.error("Redis refuses a command: %s; does another program use our keys?", code)
                raise Unusable("Redis refuses") from error

    async def run_each(self, pipeline: Any) -> list[object]:
        """The answers to the commands of a pipeline. One that Redis refuses is an exception among them.

        Raises `Unavailable` when Redis does not answer, or takes nothing just now.
        """
        answers: list[object] = await self.run(pipeline.execute(raise_on_error=False))
        for answer in answers:
            if isinstance(answer, redis_errors.OutOfMemoryError):
                self._note_full()
                raise Unavailable("Redis is full") from answer
            if isinstance(answer, Exception) and _means_away(answer):
                self._lose(answer)
                raise Unavailable("Redis is away") from answer
        return answers

    async def ping(self) -> bool:
        """Whether Redis answers a ping now."""
        try:
            return bool(await self.client.ping())
        except Exception:
            # Whatever it is, who probes must go on probing.
            return False

    async def warn_if_evicting(self) -> None:
        """Log a warning where Redis would make room by dropping what it was given. Never raises."""
        with contextlib.suppress(Unavailable, Unusable, redis_errors.ResponseError):
            settings = await self.run(self.client.config_get(POLICY))
            if settings.get(POLICY, KEEPS_ALL) != KEEPS_ALL:
                log.warning("Redis may drop offline queues: its %s is not %s", POLICY, KEEPS_ALL)

    async def close(self) -> None:
        if self._probe is not None:
            self._probe.cancel()
        await self.client.aclose(close_connection_pool=True)

    def _note_full(self) -> None:
        """It is not away: what makes room in it must go on."""
        moment = time.monotonic()
        if self._said_full_at is None or moment - self._said_full_at >= FULL_INTERVAL:
            self._said_full_at = moment
            log.error("Redis is full, and takes nothing: what comes for people who are away waits in memory")

    def _lose(self, error: BaseException) -> None:
        if self._available.is_set():
            log.warning("Redis is away: %s", type(error).__name__)
            self._available.clear()
            self.losses += 1
            # In the context of no request: it outlives the one that found this out.
            self._probe = asyncio.get_running_loop().create_task(self._probe_until_back(), context=Context())

    async def _probe_until_back(self) -> None:
        while not await self.ping():
            await asyncio.sleep(PROBE_INTERVAL)
        log.warning("Redis is back")
        self._available.set()


def code_of(error: Exception) -> str:
    """What Redis says first. Not all of it: the driver puts the command in front, with what people have written."""
    return str(error).rpartition("caused error: ")[2].partition(" ")[0]


def _means_away(error: Exception) -> bool:
    if isinstance(error, redis_errors.ResponseError) and not isinstance(error, AWAY_ERRORS):
        return code_of(error) in AWAY_CODES
    return True
