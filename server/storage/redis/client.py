"""Redis client: short timeouts, and a circuit breaker that raises `Unavailable` while Redis is unavailable."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
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
# Concurrent calls. Waiting for a slot does not count as a failure of Redis.
MAX_CALLS: Final = 32
MAX_PINGS: Final = 8
EVICTION_POLICY: Final = "maxmemory-policy"
NO_EVICTION: Final = "noeviction"
# In seconds, between two log lines that Redis is full.
FULL_INTERVAL: Final = 60.0

# Error replies that trip the circuit: Redis accepts no writes, or none of this server.
TRIPPING_ERRORS: Final = (
    redis_errors.ReadOnlyError,
    redis_errors.NoPermissionError,
    redis_errors.ClusterDownError,
    redis_errors.TryAgainError,
    redis_errors.AuthenticationWrongNumberOfArgsError,
)
# The same, as codes without a class in the driver: disk full, replicas missing, script running.
TRIPPING_CODES: Final = frozenset({"MISCONF", "NOREPLICAS", "BUSY"})


class RedisClient:
    """A client with a circuit breaker. No message is lost if Redis loses its data.

    `run` fails at once while the circuit is open, so that a dead Redis slows down nothing else. `wait_available` is for
    work that can wait. All keys begin with `prefix`, so that other programs may use the same Redis.
    """

    def __init__(self, url: str, prefix: str, note_call: Callable[[float], None] | None = None) -> None:
        """`note_call` is called with the seconds of each call."""
        self._note_call = note_call
        self._prefix = prefix
        pool: Any = redis.ConnectionPool.from_url(
            url,
            max_connections=MAX_CALLS + MAX_PINGS,
            socket_timeout=CALL_TIMEOUT,
            socket_connect_timeout=CALL_TIMEOUT,
            # One retry, because a pooled connection may be stale after a restart of Redis.
            retry=Retry(NoBackoff(), 1),
        )
        self.client: Any = redis.Redis.from_pool(pool)
        self._half_open: asyncio.Task[None] | None = None
        # How often the circuit has tripped.
        self.losses = 0
        # Since the start: calls that were begun, and those that the store did not answer.
        self.calls = self.failures = 0
        self._circuit_closed = asyncio.Event()
        self._circuit_closed.set()
        self._slots = asyncio.Semaphore(MAX_CALLS)
        self._refused_codes: set[str] = set()
        self._full_logged_at: float | None = None

    def key(self, name: str) -> str:
        """The full name of a key."""
        return f"{self._prefix}:{name}"

    @property
    def is_available(self) -> bool:
        return self._circuit_closed.is_set()

    async def wait_available(self) -> None:
        await self._circuit_closed.wait()

    async def run(self, call: Awaitable[T]) -> T:
        """Await one Redis call. Raises `Unavailable`, or `Unusable` if Redis refuses this command."""
        self.calls += 1
        begun = time.monotonic()
        try:
            return await self._run(call)
        except Unavailable:
            self.failures += 1
            raise
        finally:
            if self._note_call is not None:
                self._note_call(time.monotonic() - begun)

    async def _run(self, call: Awaitable[T]) -> T:
        async with self._slots:
            if not self._circuit_closed.is_set():
                if asyncio.iscoroutine(call):
                    call.close()
                raise Unavailable("Redis is away")
            try:
                return await call
            except redis_errors.OutOfMemoryError as error:
                self._log_full()
                raise Unavailable("Redis is full") from error
            # The event loop raises RuntimeError if the connection was closed just before the write.
            except (redis_errors.RedisError, OSError, TimeoutError, RuntimeError) as error:
                if _trips_circuit(error):
                    self._trip(error)
                    raise Unavailable("Redis is away") from error
                code = code_of(error)
                if code not in self._refused_codes:
                    self._refused_codes.add(code)
                    log.error("command refused store=redis code=%s: another program may use the same keys", code)
                raise Unusable("Redis refuses") from error

    async def run_each(self, pipeline: Any) -> list[object]:
        """The replies to the commands of a pipeline; for a refused command, the exception.

        Raises `Unavailable` if Redis does not answer, or accepts no writes.
        """
        answers: list[object] = await self.run(pipeline.execute(raise_on_error=False))
        for answer in answers:
            if isinstance(answer, redis_errors.OutOfMemoryError):
                self._log_full()
                raise Unavailable("Redis is full") from answer
            if isinstance(answer, Exception) and _trips_circuit(answer):
                self._trip(answer)
                raise Unavailable("Redis is away") from answer
        return answers

    async def ping(self) -> bool:
        """Whether Redis answers a ping. Never raises."""
        try:
            return bool(await self.client.ping())
        except Exception:
            # Any error counts as a failed probe: the probe loop must not end.
            return False

    async def warn_if_evicting(self) -> None:
        """Log a warning if Redis may evict keys. Never raises."""
        with contextlib.suppress(Unavailable, Unusable, redis_errors.ResponseError):
            settings = await self.run(self.client.config_get(EVICTION_POLICY))
            if settings.get(EVICTION_POLICY, NO_EVICTION) != NO_EVICTION:
                log.warning("offline queues may be evicted store=redis: maxmemory-policy is not noeviction")

    async def close(self) -> None:
        if self._half_open is not None:
            self._half_open.cancel()
        await self.client.aclose(close_connection_pool=True)

    def _log_full(self) -> None:
        """Log that Redis is full. The circuit stays closed, as commands that free memory must go on."""
        moment = time.monotonic()
        if self._full_logged_at is None or moment - self._full_logged_at >= FULL_INTERVAL:
            self._full_logged_at = moment
            log.error("store full store=redis: messages for offline users are buffered in memory")

    def _trip(self, error: BaseException) -> None:
        if self._circuit_closed.is_set():
            log.warning("store unavailable store=redis error=%s", type(error).__name__)
            self._circuit_closed.clear()
            self.losses += 1
            # In an empty context: the task outlives the request that tripped the circuit.
            self._half_open = asyncio.get_running_loop().create_task(self._probe_until_closed(), context=Context())

    async def _probe_until_closed(self) -> None:
        while not await self.ping():
            await asyncio.sleep(PROBE_INTERVAL)
        log.warning("store available store=redis")
        self._circuit_closed.set()


def code_of(error: Exception) -> str:
    """The error code of a reply. The whole text may hold user content, as the driver prepends the command.

    A pipeline that raises gives the arguments of the error as a tuple: `… caused error: ('BUSY …',)`.
    """
    return str(error).rpartition("caused error: ")[2].lstrip("('\"").partition(" ")[0]


def _trips_circuit(error: Exception) -> bool:
    if isinstance(error, redis_errors.ResponseError) and not isinstance(error, TRIPPING_ERRORS):
        return code_of(error) in TRIPPING_CODES
    return True
