"""MongoDB client: durable write concern, call timeouts, and a circuit breaker that raises `Unavailable`."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from contextvars import Context
from datetime import UTC, timedelta
from typing import Any, Final, TypeVar

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import errors as mongo_errors
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from server.errors import Unavailable
from server.models import now

log = logging.getLogger(__name__)
T = TypeVar("T")

# Must stay below the five seconds within which a send is refused when the store is unavailable.
CALL_TIMEOUT: Final = 4.0
PROBE_INTERVAL: Final = 0.25
PROBE_TIMEOUT: Final = 1.0
# A call starts a health check so long before its timeout, so that the circuit trips before the first call fails.
PROBE_LEAD: Final = 1.5
# The embedded store closes connections that were idle for 300 s; the client must close them first.
MAX_IDLE_MS: Final = 240_000
# The embedded store compares each document found with each key of `$in`: 500 rooms and their members take 330 ms in
# batches of 100, 160 ms in batches of 25, and seconds in one query.
KEYS_PER_QUERY: Final = 25

# After a disk failure the embedded store answers every command but pings with this code, until it is restarted.
INTERNAL_ERROR: Final = 1

DUPLICATE_KEY: Final = 11_000
# Sessions expire by the clock of the database.
MAX_CLOCK_SKEW: Final = timedelta(seconds=2)

# Errors of a replica set during an election, startup or shutdown that the driver does not report as connection
# failures: HostUnreachable, HostNotFound, CursorNotFound (of a store that was restarted), NetworkTimeout,
# ShutdownInProgress, ReadConcernMajorityNotAvailableYet, PrimarySteppedDown, ExceededTimeLimit, SocketException,
# NotWritablePrimary, InterruptedAtShutdown, InterruptedDueToReplStateChange, NotPrimaryNoSecondaryOk,
# NotPrimaryOrSecondary.
TRANSIENT_ERRORS: Final = frozenset({6, 7, 43, 89, 91, 134, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436})

# One call was slow, or slow calls occupy all connections: neither proves that the store is unavailable.
TIMEOUT_ERRORS: Final = (
    asyncio.TimeoutError,
    mongo_errors.ExecutionTimeout,
    mongo_errors.WTimeoutError,
    mongo_errors.WaitQueueTimeoutError,
)


class Database:
    """Collections with journaled majority writes and majority reads: no acknowledged or visible data is rolled back.

    `run` is the only way to await a driver call. It has a circuit breaker: a connection failure trips it, and so does a
    slow call followed by a failed health check. While it is open, calls fail at once, and probes (half-open) run
    until one succeeds and closes it.
    """

    def __init__(self, uri: str, name: str, note_call: Callable[[float], None] | None = None) -> None:
        """`note_call` is called with the seconds of each call."""
        self._note_call = note_call
        self._client: Any = AsyncIOMotorClient(
            uri,
            tz_aware=True,
            retryWrites=False,
            retryReads=True,
            serverSelectionTimeoutMS=3_000,
            connectTimeoutMS=3_000,
            socketTimeoutMS=10_000,
            waitQueueTimeoutMS=2_000,
            maxPoolSize=50,
            maxIdleTimeMS=MAX_IDLE_MS,
            appname="madang",
        )
        self._database: Any = self._client.get_database(
            name, write_concern=WriteConcern(w="majority", j=True), read_concern=ReadConcern("majority")
        )
        self._half_open: asyncio.Task[None] | None = None
        self._health_check: asyncio.Task[None] | None = None
        self._is_shut_down = False
        # Since the start: calls that were begun, and those that the store did not answer.
        self.calls = self.failures = 0
        self._circuit_closed = asyncio.Event()
        self._circuit_closed.set()

    def collection(self, name: str) -> Any:
        return self._database.get_collection(name)

    async def list_collection_names(self) -> list[str]:
        """The names of all collections. Call it through `run`."""
        names: list[str] = await self._database.list_collection_names()
        return names

    @property
    def is_available(self) -> bool:
        return self._circuit_closed.is_set()

    async def wait_available(self, timeout: float) -> bool:
        """Whether the circuit is closed, now or within `timeout` seconds."""
        try:
            await asyncio.wait_for(self._circuit_closed.wait(), timeout)
        except TimeoutError:
            return False
        return True

    async def run(
        self, call: Callable[..., Awaitable[T]], *arguments: Any, timeout: float = CALL_TIMEOUT, **options: Any
    ) -> T:
        """Await one driver call, `call(*arguments, **options)`, for at most `timeout` seconds.

        Raises `Unavailable` if the circuit is open (the call is not begun then), if the store cannot be reached in
        time, or if it does not confirm that a write is durable.
        """
        self.calls += 1
        begun = time.monotonic()
        try:
            return await self._run(call, *arguments, timeout=timeout, **options)
        except Unavailable:
            self.failures += 1
            raise
        finally:
            if self._note_call is not None:
                self._note_call(time.monotonic() - begun)

    async def _run(self, call: Callable[..., Awaitable[T]], *arguments: Any, timeout: float, **options: Any) -> T:
        if not self._circuit_closed.is_set():
            raise Unavailable("The database is away")
        # With a shorter timeout, the failure of the call itself is early enough.
        check_after = timeout - PROBE_LEAD if timeout > PROBE_LEAD else timeout
        health_check = asyncio.get_running_loop().call_later(check_after, self._start_health_check)
        try:
            return await asyncio.wait_for(call(*arguments, **options), timeout)
        except TIMEOUT_ERRORS as error:
            self._start_health_check()
            raise Unavailable("The database does not answer in time") from error
        except mongo_errors.ConnectionFailure as error:
            self._trip(error)
            raise Unavailable("The database is away") from error
        except mongo_errors.WriteConcernError as error:
            raise Unavailable("The database does not say that it keeps what was written") from error
        except mongo_errors.BulkWriteError as error:
            if error.details.get("writeConcernErrors"):
                raise Unavailable("The database does not say that it keeps what was written") from error
            if not any(failure["code"] in TRANSIENT_ERRORS for failure in error.details.get("writeErrors", ())):
                raise
            self._start_health_check()
            raise Unavailable("The database is between two primaries") from error
        except mongo_errors.InvalidOperation as error:
            if not self._is_shut_down:
                raise
            raise Unavailable("The database is closed") from error
        except mongo_errors.OperationFailure as error:
            if error.code in TRANSIENT_ERRORS:
                self._start_health_check()
                raise Unavailable("The database is between two primaries") from error
            if error.code != INTERNAL_ERROR:
                raise
            self._trip(error)
            raise Unavailable("The database is broken") from error
        finally:
            health_check.cancel()

    async def find_by_keys(self, collection: Any, field: str, keys: Collection[str]) -> list[dict[str, Any]]:
        """All documents whose `field` is one of these keys, of any number. Raises `Unavailable`."""
        wanted = list(keys)
        documents: list[dict[str, Any]] = []
        for start in range(0, len(wanted), KEYS_PER_QUERY):
            cursor = collection.find({field: {"$in": wanted[start : start + KEYS_PER_QUERY]}})
            documents.extend(await self.run(cursor.to_list, None))
        return documents

    async def ping(self, timeout: float = PROBE_TIMEOUT) -> bool:
        """Whether the store answers a read within `timeout` seconds. Never raises."""
        try:
            await asyncio.wait_for(self._database.get_collection("probe").find_one({"_id": ""}), timeout)
        except Exception:
            # Any error counts as a failed probe: the probe loop must not end.
            return False
        return True

    async def warn_of_weakness(self) -> None:
        """Log a warning if the store is in-memory only, or its clock is skewed. Raises `Unavailable`.

        A missing journal needs no check: the store then refuses every write, as all of them ask for the journal.
        `main.py check --stores` checks more.
        """
        try:
            status = await self.run(self._client.admin.command, "serverStatus")
        except mongo_errors.OperationFailure:
            # The database user lacks the right.
            return
        if not status.get("storageEngine", {}).get("persistent", True):
            log.warning("storage not persistent store=mongodb: acknowledged writes are lost when it stops")
        difference = abs(status.get("localTime", now()).replace(tzinfo=UTC) - now())
        if difference > MAX_CLOCK_SKEW:
            log.warning("clock skew store=mongodb seconds=%.0f", difference.total_seconds())

    def close(self) -> None:
        """Close the client. Calls in flight and later ones fail with `Unavailable`."""
        self._is_shut_down = True
        self._circuit_closed.clear()
        for task in self._half_open, self._health_check:
            if task is not None:
                task.cancel()
        self._client.close()

    def _start_health_check(self) -> None:
        """Find out whether the store is unavailable, or only one call was slow."""
        if self._health_check is None and self._circuit_closed.is_set():
            self._health_check = asyncio.get_running_loop().create_task(self._trip_if_silent(), context=Context())

    async def _trip_if_silent(self) -> None:
        try:
            if not await self.ping():
                self._trip(TimeoutError())
        finally:
            self._health_check = None

    def _trip(self, error: BaseException) -> None:
        if self._circuit_closed.is_set():
            log.warning("store unavailable store=mongodb error=%s", type(error).__name__)
            self._circuit_closed.clear()
            # In an empty context: the task outlives the request that tripped the circuit.
            self._half_open = asyncio.get_running_loop().create_task(self._probe_until_closed(), context=Context())

    async def _probe_until_closed(self) -> None:
        while not await self.ping():
            await asyncio.sleep(PROBE_INTERVAL)
        log.warning("store available store=mongodb")
        self._circuit_closed.set()
