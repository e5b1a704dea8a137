"""The one MongoDB client: durable write concern, bounded waits, and `Unavailable` where the driver fails."""

import asyncio
import logging
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

# A send is refused within five seconds when the store is away, so one call may take most of that.
CALL_TIMEOUT: Final = 4.0
PROBE_INTERVAL: Final = 0.25
PROBE_TIMEOUT: Final = 1.0
# A call that has only so long left gives rise to a probe: that a store is away is known before the first call ends.
PROBE_LEAD: Final = 1.5
# The embedded store closes connections that were idle for 300 s; leave first, so that nobody finds a dead one.
MAX_IDLE_MS: Final = 240_000
# The embedded store compares each document found with each key asked for: 500 rooms and their members cost it 330 ms by
# 100 at once, 160 ms by 25, and seconds all at once.
KEYS_PER_QUERY: Final = 25

# A store whose disk has failed it says this to everything but pings, until it is restarted.
INTERNAL_ERROR: Final = 1

DUPLICATE_KEY: Final = 11_000
# Sessions expire by the database's clock.
MOST_CLOCK_DIFFERENCE: Final = timedelta(seconds=2)

# What a replica set says while it changes its primary, starts or ends, and the driver does not take for a lost
# connection: HostUnreachable, HostNotFound, NetworkTimeout, ShutdownInProgress, ReadConcernMajorityNotAvailableYet,
# PrimarySteppedDown, ExceededTimeLimit, SocketException, NotWritablePrimary, InterruptedAtShutdown,
# InterruptedDueToReplStateChange, NotPrimaryNoSecondaryOk, NotPrimaryOrSecondary.
PASSING_ERRORS: Final = frozenset({6, 7, 89, 91, 134, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436})

# One call was too slow, which may be its own fault, or all connections are taken by such calls.
TIMEOUT_ERRORS: Final = (
    asyncio.TimeoutError,
    mongo_errors.ExecutionTimeout,
    mongo_errors.WTimeoutError,
    mongo_errors.WaitQueueTimeoutError,
)


class Database:
    """Collections that acknowledge only what is journaled, and show only what cannot be rolled back.

    What a replica set's majority does not hold yet may be gone after an election: nobody may be told that it is there.

    `run` is the only way to await a driver call. After a failure to connect, or a call and a probe that were not
    answered in time, calls are refused at once until a probe succeeds, so that nobody queues behind a store that is
    away.
    """

    def __init__(self, uri: str, name: str) -> None:
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
        self._probe: asyncio.Task[None] | None = None
        self._doubt: asyncio.Task[None] | None = None
        self._is_closed = False
        self._back = asyncio.Event()
        self._back.set()

    def collection(self, name: str) -> Any:
        return self._database.get_collection(name)

    async def list_collection_names(self) -> list[str]:
        """The names of all collections. To be called by `run`."""
        names: list[str] = await self._database.list_collection_names()
        return names

    @property
    def is_available(self) -> bool:
        return self._back.is_set()

    async def wait_available(self, timeout: float) -> bool:
        """Whether the store answers now or within `timeout` seconds."""
        try:
            await asyncio.wait_for(self._back.wait(), timeout)
        except TimeoutError:
            return False
        return True

    async def run(
        self, call: Callable[..., Awaitable[T]], *arguments: Any, timeout: float = CALL_TIMEOUT, **options: Any
    ) -> T:
        """Await one driver call, `call(*arguments, **options)`; while the store is away it is not begun.

        Raises `Unavailable` when the store cannot be reached in time, or cannot say whether what it did will last.
        """
        if not self._back.is_set():
            raise Unavailable("The database is away")
        # With less time than that, the end of the call says it soon enough.
        probe_after = timeout - PROBE_LEAD if timeout > PROBE_LEAD else timeout
        probe = asyncio.get_running_loop().call_later(probe_after, self._suspect)
        try:
            return await asyncio.wait_for(call(*arguments, **options), timeout)
        except TIMEOUT_ERRORS as error:
            self._suspect()
            raise Unavailable("The database does not answer in time") from error
        except mongo_errors.ConnectionFailure as error:
            self._lose(error)
            raise Unavailable("The database is away") from error
        except mongo_errors.WriteConcernError as error:
            raise Unavailable("The database does not say that it keeps what was written") from error
        except mongo_errors.BulkWriteError as error:
            if error.details.get("writeConcernErrors"):
                raise Unavailable("The database does not say that it keeps what was written") from error
            if not any(failure["code"] in PASSING_ERRORS for failure in error.details.get("writeErrors", ())):
                raise
            self._suspect()
            raise Unavailable("The database is between two primaries") from error
        except mongo_errors.InvalidOperation as error:
            if not self._is_closed:
                raise
            raise Unavailable("The database is closed") from error
        except mongo_errors.OperationFailure as error:
            if error.code in PASSING_ERRORS:
                self._suspect()
                raise Unavailable("The database is between two primaries") from error
            if error.code != INTERNAL_ERROR:
                raise
            self._lose(error)
            raise Unavailable("The database is broken") from error
        finally:
            probe.cancel()

    async def find_by_keys(self, collection: Any, field: str, keys: Collection[str]) -> list[dict[str, Any]]:
        """All documents of a collection whose `field` is one of these keys, however many. Raises `Unavailable`."""
        wanted = list(keys)
        documents: list[dict[str, Any]] = []
        for start in range(0, len(wanted), KEYS_PER_QUERY):
            cursor = collection.find({field: {"$in": wanted[start : start + KEYS_PER_QUERY]}})
            documents.extend(await self.run(cursor.to_list, None))
        return documents

    async def ping(self, timeout: float = PROBE_TIMEOUT) -> bool:
        """Whether the store answers now, with something that it has read."""
        try:
            await asyncio.wait_for(self._database.get_collection("probe").find_one({"_id": ""}), timeout)
        except Exception:
            # Whatever it is, who probes must go on probing.
            return False
        return True

    async def warn_of_weakness(self) -> None:
        """Log a warning where the store keeps its data in memory alone, or has another time. Raises `Unavailable`.

        One that has a disk but no journal needs no look: it refuses every write that asks for the journal.
        `main.py check --stores` asks for more.
        """
        try:
            status = await self.run(self._client.admin.command, "serverStatus")
        except mongo_errors.OperationFailure:
            # The server's user may not ask.
            return
        if not status.get("storageEngine", {}).get("persistent", True):
            log.warning("mongodb.uri is a server without a disk: what it acknowledged is lost when it ends")
        difference = abs(status.get("localTime", now()).replace(tzinfo=UTC) - now())
        if difference > MOST_CLOCK_DIFFERENCE:
            log.warning(
                "MongoDB's clock differs by %.0f s: what expires does so too early or late", difference.total_seconds()
            )

    def close(self) -> None:
        """What is under way, and what comes now, fails with `Unavailable`."""
        self._is_closed = True
        self._back.clear()
        for task in self._probe, self._doubt:
            if task is not None:
                task.cancel()
        self._client.close()

    def _suspect(self) -> None:
        """Find out whether the store is away, or only one call was slow."""
        if self._doubt is None and self._back.is_set():
            self._doubt = asyncio.get_running_loop().create_task(self._probe_once(), context=Context())

    async def _probe_once(self) -> None:
        try:
            if not await self.ping():
                self._lose(TimeoutError())
        finally:
            self._doubt = None

    def _lose(self, error: BaseException) -> None:
        if self._back.is_set():
            log.warning("MongoDB is away: %s", type(error).__name__)
            self._back.clear()
            # In the context of no request: it outlives the one that found this out.
            self._probe = asyncio.get_running_loop().create_task(self._probe_until_back(), context=Context())

    async def _probe_until_back(self) -> None:
        while not await self.ping():
            await asyncio.sleep(PROBE_INTERVAL)
        log.warning("MongoDB is back")
        self._back.set()
