"""Builds, opens and closes all stores: MongoDB collections, Redis structures, and files in `data_dir`."""

import asyncio
from pathlib import Path
from typing import Final

from pymongo.errors import OperationFailure

from server.config.settings import Settings
from server.errors import Unavailable, Unusable
from server.metrics import Metrics
from server.storage.blobs import Blobs
from server.storage.disk.blobs import DiskBlobs
from server.storage.disk.files import DiskThreads
from server.storage.disk.in_flight_journal import InFlightJournal
from server.storage.disk.spool import Spool
from server.storage.mongo.backfills import BackfillStore
from server.storage.mongo.blocks import BlockStore
from server.storage.mongo.changes import ChangeStore
from server.storage.mongo.chat_settings import ChatSettingsStore
from server.storage.mongo.database import Database
from server.storage.mongo.gridfs_blobs import GridFSBlobs
from server.storage.mongo.identity import IdentityStore
from server.storage.mongo.mentions import MentionStore
from server.storage.mongo.messages import MessageStore
from server.storage.mongo.reports import ReportStore
from server.storage.mongo.rooms import MemberStore, RoomStore
from server.storage.mongo.search_terms import SearchTerms
from server.storage.mongo.servers import Servers
from server.storage.mongo.sessions import Sessions
from server.storage.mongo.upload_records import UploadRecords
from server.storage.mongo.users import Users
from server.storage.redis.client import RedisClient
from server.storage.redis.fixed_windows import FixedWindows
from server.storage.redis.offline_queues import OfflineQueues
from server.storage.redis.presence_leases import PresenceLeases

# In seconds, for a database that is slow or still starting.
START_TIMEOUT: Final = 10.0
START_RETRY_INTERVAL: Final = 0.25


class Stores:
    """One instance of each store, over one MongoDB client, one Redis client and a few disk threads."""

    def __init__(self, settings: Settings, mongodb_uri: str, redis_url: str, metrics: Metrics | None = None) -> None:
        """With `metrics`, these count the calls."""
        data = Path(settings.data_dir)
        note_call = None if metrics is None else metrics.store_calls("mongodb")
        self.database = Database(mongodb_uri, settings.mongodb.database, note_call)
        self.identity = IdentityStore(self.database)
        self.users = Users(self.database)
        self.sessions = Sessions(self.database)
        self.search_terms = SearchTerms(self.database)
        self.rooms = RoomStore(self.database)
        self.members = MemberStore(self.database)
        self.messages = MessageStore(self.database)
        self.changes = ChangeStore(self.database)
        self.mentions = MentionStore(self.database)
        self.chat_settings = ChatSettingsStore(self.database)
        self.blocks = BlockStore(self.database)
        self.reports = ReportStore(self.database)
        self.backfills = BackfillStore(self.database)
        self.upload_records = UploadRecords(self.database, settings.uploads.orphan_ttl)
        self.servers = Servers(self.database)
        note_call = None if metrics is None else metrics.store_calls("redis")
        self.redis = RedisClient(redis_url, redis_prefix(settings.mongodb.database), note_call)
        self.counters = FixedWindows(self.redis)
        self.presence_leases = PresenceLeases(self.redis)
        self.offline_queues = OfflineQueues(
            self.redis, max_entries=settings.offline_queue.max_messages, max_bytes=settings.offline_queue.max_bytes
        )
        self._upload_threads = DiskThreads()
        self.spool = Spool(data / "uploads" / "arriving", self._upload_threads)
        self.blobs = make_blobs(settings, self.database, self._upload_threads)
        # A separate thread, so that uploads do not delay messages.
        self._journal_thread = DiskThreads(1)
        self.in_flight_journal = InFlightJournal(data / "unsettled_rooms", self._journal_thread)

    async def open(self) -> None:
        """Create indexes and folders. Raises `Unavailable`, or `Unusable` if MongoDB refuses an operation."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + START_TIMEOUT
        while True:
            try:
                await self._prepare()
                break
            except Unusable:
                raise
            except Unavailable:
                if not await self.database.wait_available(deadline - loop.time()):
                    raise
                await asyncio.sleep(START_RETRY_INTERVAL)
        await self.blobs.prepare()
        await self.spool.open()
        await self.redis.warn_if_evicting()

    async def _prepare(self) -> None:
        collections = (
            *(self.users, self.sessions, self.search_terms, self.rooms, self.members, self.messages),
            *(self.changes, self.mentions, self.upload_records, self.blocks, self.reports),
        )
        try:
            # Alone: of concurrent calls, only the first reports a refused login; the others are disconnected. First:
            # nothing may be created in the database of a newer server.
            await self.identity.open()
            await asyncio.gather(*(store.prepare() for store in collections))
            await self.database.warn_of_weakness()
        except OperationFailure as error:
            # The driver's own text is long and may span lines.
            raise Unusable(f"MongoDB refuses: {(error.details or {}).get('errmsg', f'code {error.code}')}") from error

    async def close(self) -> None:
        """Close all stores. No call may be in flight."""
        await self.spool.close()
        self._upload_threads.close()
        self._journal_thread.close()
        self.in_flight_journal.close()
        await self.redis.close()
        # Closing the client of a silent store blocks until the driver's timeout.
        if await self.database.ping():
            self.database.close()


def make_blobs(settings: Settings, database: Database, threads: DiskThreads) -> Blobs:
    """The blob store that `uploads.store` selects."""
    if settings.uploads.store == "gridfs":
        return GridFSBlobs(database, threads)
    return DiskBlobs(Path(settings.data_dir) / "uploads" / "files", threads)


def redis_prefix(database: str) -> str:
    """The prefix of all Redis keys, so that several servers and other programs may share one Redis."""
    return f"madang:{database}"
