"""`main.py move`: migrates the embedded database to a real MongoDB. Copies all collections and compares both sides."""

from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from server.config.secret_files import read_or_make_secret
from server.config.settings import Settings
from server.embedded import EmbeddedStores, StartFailed, check_has_mongodb, export_mongodb
from server.embedded.mongodb import check_uri
from server.errors import Unavailable
from server.models import now
from server.storage.disk.files import DiskThreads
from server.storage.mongo.database import Database
from server.storage.mongo.gridfs_blobs import GridFSBlobs
from server.storage.mongo.messages import MessageStore
from server.storage.mongo.migration_target import MigrationTarget, Sum, expires
from server.storage.mongo.rooms import MemberStore, RoomStore
from server.storage.mongo.search_terms import SearchTerms
from server.storage.mongo.sessions import Sessions
from server.storage.mongo.upload_records import UploadRecords
from server.storage.mongo.users import Users

# Per write, far below the limits of the protocol.
BATCH_DOCUMENTS: Final = 500
BATCH_BYTES: Final = 4 * 1024 * 1024
PING_TIMEOUT: Final = 5.0
# Documents that expire so soon are copied, but not compared: one side may have removed them already.
NOT_COMPARED: Final = timedelta(hours=1)


class MigrationFailed(Exception):
    """The migration failed; the text is one line with the reason. The embedded database is unchanged."""


async def migrate(settings: Settings, uri: str, database_name: str, say: Callable[[str], None]) -> None:
    """Copy the embedded database of `settings.data_dir` to `uri`, and report progress through `say`.

    Neither database may be in use; a server on the embedded one is detected. An interrupted migration is continued by
    the next call. Raises `MigrationFailed`. The embedded database is never changed, and nothing is written to the
    target if the embedded one is empty.
    """
    if settings.mongodb.uri != "embedded":
        raise MigrationFailed("mongodb.uri is not embedded: use mongodump and mongorestore to move between servers")
    stores = EmbeddedStores()
    try:
        check_uri(uri)
        # First, because `take` creates the folder.
        check_has_mongodb(Path(settings.data_dir))
        data = stores.take(settings)
        database = Database(uri, database_name)
        try:
            await _Migration(settings, data, database, say).run()
        finally:
            database.close()
    except StartFailed as error:
        raise MigrationFailed(str(error)) from error
    except Unavailable as error:
        raise MigrationFailed(f"{error.detail}; run the same command again to go on") from error
    finally:
        await stores.stop()
    say("Every document is there. Put this into config.yaml:")
    say(f"mongodb:\n  uri: {_without_password(uri)}\n  database: {database_name}")
    if urlsplit(uri).password is not None:
        say("Keep the password out of the file: set MADANG_MONGODB__URI to the whole address instead.")


class _Expected(msgspec.Struct, frozen=True):
    """The expected checksum of a target collection, without documents that expire before `horizon`."""

    sum: Sum
    expiry: str | None
    horizon: datetime


class _Migration:
    def __init__(self, settings: Settings, data: Path, database: Database, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._data = data
        self._database = database
        self._source = read_or_make_secret(data / "store_id")
        self._target = MigrationTarget(database)
        self._say = say

    async def run(self) -> None:
        if not await self._database.ping(PING_TIMEOUT):
            raise MigrationFailed("the target database does not answer, or does not accept the login")
        state = await self._target.state(self._source)
        if state == "moved":
            raise MigrationFailed("this data has been moved there already")
        if state == "foreign":
            raise MigrationFailed("the target database is not empty; name another one with --database")
        sums = await self._copy(None)
        if not sums:
            raise MigrationFailed(
                f"{self._data} has no collections of the database {self._settings.mongodb.database}; "
                "use the same --config, --set and environment as the server"
            )
        different = await self._compare(sums)
        if different:
            # Left by an earlier run; the source has changed since.
            for name in different:
                await self._target.clear(name)
            different = await self._compare(await self._copy(different))
        if different:
            raise MigrationFailed(f"these collections differ after copying: {', '.join(sorted(different))}")
        await self._target.finish(self._source)

    async def _prepare(self) -> None:
        """Mark the target and create its indexes, which takes no time on empty collections."""
        await self._target.begin(self._source)
        database = self._database
        for store in Users(database), Sessions(database), SearchTerms(database), RoomStore(database):
            await store.prepare()
        for other in MemberStore(database), MessageStore(database):
            await other.prepare()
        await UploadRecords(database, self._settings.uploads.orphan_ttl).prepare()
        if self._settings.uploads.store == "gridfs":
            threads = DiskThreads()
            await GridFSBlobs(database, threads).prepare()
            threads.close()

    async def _copy(self, wanted: set[str] | None) -> dict[str, _Expected]:
        """Copy the collections, all or those in `wanted`. Returns the expected content of each, for `_compare`."""
        sums: dict[str, _Expected] = {}
        batch: list[bytes] = []
        filling, size = "", 0
        start = now()
        async with aclosing(export_mongodb(self._data, self._settings.mongodb.database)) as documents:
            async for name, document in documents:
                if wanted is not None and name not in wanted:
                    continue
                if document is None:
                    if not sums:
                        # Nothing is written before the source was opened and is not empty.
                        await self._prepare()
                    await self._insert(filling, batch)
                    filling, batch, size = name, [], 0
                    self._say(f"copying {name}")
                    sums[name] = _Expected(Sum(), await self._target.expiry_field(name), start + NOT_COMPARED)
                    continue
                expected = sums[name]
                if not expires(document, expected.expiry, expected.horizon):
                    expected.sum.add(document)
                elif expires(document, expected.expiry, start):
                    continue
                batch.append(document)
                size += len(document)
                if len(batch) >= BATCH_DOCUMENTS or size >= BATCH_BYTES:
                    await self._insert(name, batch)
                    batch, size = [], 0
            await self._insert(filling, batch)
        return sums

    async def _insert(self, name: str, batch: list[bytes]) -> None:
        if batch:
            await self._target.insert(name, batch)

    async def _compare(self, sums: dict[str, _Expected]) -> set[str]:
        """The names of collections that differ."""
        different = set()
        for name, expected in sums.items():
            found = await self._target.sum(name, expected.expiry, expected.horizon)
            is_equal = found == expected.sum
            self._say(f"{name}: {found.count} of {expected.sum.count} documents{'' if is_equal else ', which differ'}")
            if not is_equal:
                different.add(name)
        return different


def _without_password(uri: str) -> str:
    password = urlsplit(uri).password
    return uri if password is None else uri.replace(f":{password}@", ":…@", 1)
