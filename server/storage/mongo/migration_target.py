"""Target database of a migration: its state, bulk inserts, and checksums to compare both sides."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal

import bson
import msgspec
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.errors import BulkWriteError, PyMongoError

from server.errors import Unavailable
from server.models import now
from server.storage.mongo.database import DUPLICATE_KEY, Database

# Records the source of the data. It is kept, so that the same data is not migrated twice.
MARKS: Final = "moved_from"
CALL_TIMEOUT: Final = 30.0
READ_BATCH: Final = 200
RAW: Final[CodecOptions[RawBSONDocument]] = CodecOptions(document_class=RawBSONDocument)


class Sum(msgspec.Struct):
    """Number of documents and a checksum over them, independent of their order."""

    count: int = 0
    digest: int = 0

    def add(self, document: bytes) -> None:
        content = bson.decode(document)
        if next(iter(content)) != "_id":
            # MongoDB keeps the order of fields, but moves `_id` to the front.
            document = bson.encode({"_id": content["_id"], **content})
        self.count += 1
        self.digest = (self.digest + int.from_bytes(hashlib.blake2b(document, digest_size=16).digest())) % 2**128


class MigrationTarget:
    """The target database. Every call may raise `Unavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._marks: Any = database.collection(MARKS)

    async def state(self, source: str) -> Literal["empty", "begun", "moved", "foreign"]:
        """Whether it is empty, holds part of the data of `source`, all of it, or other data."""
        mark: dict[str, Any] | None = await self._run(self._marks.find_one, {})
        if mark is not None:
            return "foreign" if mark["_id"] != source else "moved" if mark.get("movedAt") else "begun"
        for name in await self._run(self._database.list_collection_names):
            if not name.startswith("system.") and await self._run(self._database.collection(name).find_one, {}):
                return "foreign"
        return "empty"

    async def begin(self, source: str) -> None:
        """Mark it as being filled from `source`. Idempotent."""
        mark = {"$setOnInsert": {"begunAt": now()}}
        await self._run(self._marks.update_one, {"_id": source}, mark, upsert=True)

    async def finish(self, source: str) -> None:
        await self._run(self._marks.update_one, {"_id": source}, {"$set": {"movedAt": now()}})

    async def insert(self, collection: str, documents: Sequence[bytes]) -> None:
        """Store raw BSON documents; those whose key exists are skipped."""
        raw = [RawBSONDocument(document) for document in documents]
        try:
            await self._run(self._database.collection(collection).insert_many, raw, ordered=False)
        except BulkWriteError as error:
            if any(failure["code"] != DUPLICATE_KEY for failure in error.details["writeErrors"]):
                raise

    async def clear(self, collection: str) -> None:
        await self._run(self._database.collection(collection).delete_many, {})

    async def expiry_field(self, collection: str) -> str | None:
        """The field of the TTL index of this collection, or None."""
        indexes: dict[str, Any] = await self._run(self._database.collection(collection).index_information)
        return next((index["key"][0][0] for index in indexes.values() if index.get("expireAfterSeconds") == 0), None)

    async def sum(self, collection: str, expiry: str | None, horizon: datetime) -> Sum:
        """The checksum of all documents that do not expire before `horizon`."""
        found = Sum()
        cursor: Any = self._database.collection(collection).with_options(codec_options=RAW).find({})
        cursor.batch_size(READ_BATCH)
        while documents := await self._run(cursor.to_list, READ_BATCH):
            for document in documents:
                if not expires(document.raw, expiry, horizon):
                    found.add(document.raw)
        return found

    async def _run(self, call: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return await self._database.run(call, *arguments, timeout=CALL_TIMEOUT, **options)
        except BulkWriteError:
            raise
        except (TimeoutError, PyMongoError) as error:
            raise Unavailable(f"the target database refuses: {error}") from error


def expires(document: bytes, field: str | None, horizon: datetime) -> bool:
    """Whether the TTL index may remove this document before `horizon`."""
    if field is None:
        return False
    at: object = bson.decode(document, CodecOptions(tz_aware=True)).get(field)
    return isinstance(at, datetime) and at < horizon
