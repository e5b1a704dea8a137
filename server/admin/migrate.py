"""Moves the embedded database into a real MongoDB: copies every collection, compares both, and says what to set."""

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
from server.storage.mongo.migration_target import MoveTarget, Sum, expires
from server.storage.mongo.rooms import MemberStore, RoomStore
from server.storage.mongo.search_terms import SearchTerms
from server.storage.mongo.sessions import Sessions
from server.storage.mongo.upload_records import UploadRecords
from server.storage.mongo.users import Users

# One write: few enough documents and bytes to be far from every limit of the protocol.
BATCH_DOCUMENTS: Final = 500
BATCH_BYTES: Final = 4 * 1024 * 1024
PING_TIMEOUT: Final = 5.0
# What the database removes by itself so soon is copied, but not compared: one side may have removed it already.
NOT_COMPARED: Final = timedelta(hours=1)


class MoveFailed(Exception):
    """The data was not moved; the text says why in one line. The embedded database is as it was."""


async def move(settings: Settings, uri: str, database_name: str, say: Callable[[str], None]) -> None:
    """Copy the embedded database of `settings.data_dir` to `uri`, and say what was done line by line.

    Nobody may use either meanwhile; a server that uses the embedded one is noticed. A move that was interrupted
    continues when it is called again. Raises `MoveFailed`. The embedded database is never changed, and nothing is
    written to the target if the embedded one holds nothing.
    """
    if settings.mongodb.uri != "embedded":
        raise MoveFailed("mongodb.uri is not embedded: use mongodump and mongorestore to move between servers")
    stores = EmbeddedStores()
    try:
        check_uri(uri)
        # First, because `take` makes the folder that it is given.
        check_has_mongodb(Path(settings.data_dir))
        data = stores.take(settings)
        database = Database(uri, database_name)
        try:
            await _Move(settings, data, database, say).run()
        finally:
            database.close()
    except StartFailed as error:
        raise MoveFailed(str(error)) from error
    except Unavailable as error:
        raise MoveFailed(f"{error.detail}; run the same command again to go on") from error
    finally:
        await stores.stop()
    say("Every document is there. Put this into config.yaml:")
    say(f"mongodb:\n  uri: {_without_password(uri)}\n  database: {database_name}")
    if urlsplit(uri).password is not None:
        say("Keep the password out of the file: set MADANG_MONGODB__URI to the whole address instead.")


class _Expected(msgspec.Struct, frozen=True):
    """What one collection of the target should hold, without what expires before `horizon`."""

    sum: Sum
    expiry: str | None
    horizon: datetime


class _Move:
    def __init__(self, settings: Settings, data: Path, database: Database, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._data = data
        self._database = database
        self._source = read_or_make_secret(data / "store_id")
        self._target = MoveTarget(database)
        self._say = say

    async def run(self) -> None:
        if not await self._database.ping(PING_TIMEOUT):
            raise MoveFailed("the target database does not answer, or does not accept the login")
        state = await self._target.state(self._source)
        if state == "moved":
            raise MoveFailed("this data has been moved there already")
        if state == "strange":
            raise MoveFailed("the target database is not empty; name another one with --database")
        sums = await self._copy(None)
        if not sums:
            raise MoveFailed(
                f"{self._data} has no collections of the database {self._settings.mongodb.database}; "
                "use the same --config, --set and environment as the server"
            )
        wrong = await self._compare(sums)
        if wrong:
            # Left by an earlier try; the source has changed or removed it since.
            for name in wrong:
                await self._target.clear(name)
            wrong = await self._compare(await self._copy(wrong))
        if wrong:
            raise MoveFailed(f"these collections differ after copying: {', '.join(sorted(wrong))}")
        await self._target.finish(self._source)

    async def _prepare(self) -> None:
        """Say in the target whose data it gets, and make its indexes: on an empty collection it takes no time."""
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
        """Copy the collections; for each the sum of what should be there, as `_compare` counts it."""
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
                        # The source could be opened and holds something: only now is anything written.
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
        """The collections that do not agree."""
        wrong = set()
        for name, expected in sums.items():
            found = await self._target.sum(name, expected.expiry, expected.horizon)
            agrees = found == expected.sum
            self._say(f"{name}: {found.count} of {expected.sum.count} documents{'' if agrees else ', which differ'}")
            if not agrees:
                wrong.add(name)
        return wrong


def _without_password(uri: str) -> str:
    password = urlsplit(uri).password
    return uri if password is None else uri.replace(f":{password}@", ":…@", 1)
