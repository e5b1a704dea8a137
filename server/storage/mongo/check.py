"""Checks a MongoDB for each feature that the server requires, in a scratch collection that is dropped afterwards."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC
from typing import Any, Final

from bson import Binary
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import ReturnDocument, UpdateOne
from pymongo.errors import BulkWriteError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from server.models import now
from server.storage.findings import Differs, Finding, run_checks
from server.storage.mongo.database import DUPLICATE_KEY, MAX_CLOCK_SKEW

CHUNK_BYTES: Final = 255 * 1024
WAIT_MS: Final = 5_000


async def check_mongodb(uri: str, database: str) -> list[Finding]:
    """Run all checks. Writes only to a scratch collection."""
    async with _scratch(uri, database) as check:
        return await run_checks(
            "mongodb",
            {
                "answers": check.answers,
                "keeps its data on a disk": check.is_persistent,
                "unique keys": check.unique_keys,
                "ordered inserts stop at the first failure": check.ordered_inserts,
                "journaled writes by a majority": check.durable_writes,
                "reads of what a majority has": check.majority_reads,
                "range reads by an index": check.range_reads,
                "marks that only rise": check.marks,
                "findAndModify": check.find_and_modify,
                "documents that expire": check.expiry,
                "files in chunks (GridFS)": check.chunks,
                "sessions and retryable writes": check.sessions,
                "clock": check.clock,
            },
        )


@asynccontextmanager
async def _scratch(uri: str, database: str) -> AsyncIterator["_MongoDBCheck"]:
    client: Any = AsyncIOMotorClient(
        uri, tz_aware=True, retryWrites=False, serverSelectionTimeoutMS=WAIT_MS, connectTimeoutMS=WAIT_MS
    )
    durable = client.get_database(database, write_concern=WriteConcern(w="majority", j=True, wtimeout=WAIT_MS))
    collection = durable.get_collection(f"check_{secrets.token_hex(8)}")
    check = _MongoDBCheck(client, collection)
    try:
        yield check
    finally:
        if check.has_answered:
            await collection.drop()
        client.close()


class _MongoDBCheck:
    """One method per check. Each uses its own documents, so that their order does not matter."""

    def __init__(self, client: Any, collection: Any) -> None:
        self._client = client
        self._collection = collection
        self._is_replica_set = False
        self.has_answered = False

    async def answers(self) -> str:
        hello = await self._client.admin.command("hello")
        self.has_answered = True
        self._is_replica_set = "setName" in hello
        if not (self._is_replica_set or hello.get("msg") == "isdbgrid"):
            return "a standalone server: what it acknowledged is lost with its disk; a replica set keeps it"
        return ""

    async def is_persistent(self) -> str:
        status = await self._client.admin.command("serverStatus")
        if not status.get("storageEngine", {}).get("persistent", True):
            raise Differs("it keeps its data in memory alone: what was acknowledged is lost when it ends")
        return ""

    async def unique_keys(self) -> str:
        await self._collection.create_index([("roomId", 1), ("seq", 1)], unique=True)
        await self._collection.insert_one({"_id": "unique", "roomId": "unique", "seq": 1})
        for document in {"_id": "unique", "roomId": "other", "seq": 1}, {"_id": "z", "roomId": "unique", "seq": 1}:
            failures = await self._failures([document])
            if [failure["code"] for failure in failures] != [DUPLICATE_KEY]:
                raise Differs(f"a second {document} is answered by {[failure['code'] for failure in failures]}")
        return ""

    async def ordered_inserts(self) -> str:
        batch = [{"_id": f"ordered-{n}", "roomId": "ordered", "seq": n} for n in (1, 2, 2, 3)]
        batch[2]["_id"] = "ordered-again"
        failures = await self._failures(batch)
        if [failure["index"] for failure in failures] != [2]:
            raise Differs(f"the third of four collides, but {[failure['index'] for failure in failures]} are named")
        stored = await self._collection.find({"roomId": "ordered"}).sort("seq", 1).to_list(None)
        if [document["_id"] for document in stored] != ["ordered-1", "ordered-2"]:
            raise Differs("it stored another part than the one before the collision")
        return ""

    async def durable_writes(self) -> str:
        result = await self._collection.insert_one({"_id": "durable", "roomId": "durable", "seq": 1})
        if not result.acknowledged:
            raise Differs("a write with j and w: majority is not acknowledged")
        return ""

    async def majority_reads(self) -> str:
        await self._collection.insert_one({"_id": "majority", "roomId": "majority", "seq": 1})
        reading = self._collection.with_options(read_concern=ReadConcern("majority"))
        if await reading.find_one({"_id": "majority"}) is None:
            raise Differs("a write that a majority acknowledged is not found by a read of what a majority has")
        return ""

    async def range_reads(self) -> str:
        await self._collection.create_index([("roomId", 1), ("seq", 1)], unique=True)
        await self._collection.insert_many([{"_id": f"range-{n}", "roomId": "range", "seq": n} for n in range(100)])
        cursor = self._collection.find({"roomId": "range", "seq": {"$gt": 40, "$lte": 45}}).sort("seq", 1)
        if [document["seq"] for document in await cursor.to_list(None)] != [41, 42, 43, 44, 45]:
            raise Differs("a range is not answered in its order")
        stages = _stages((await cursor.explain()).get("queryPlanner", {}).get("winningPlan", {}))
        if "COLLSCAN" in stages:
            raise Differs(f"a page of history is read by {' of '.join(stages)}")
        if "IXSCAN" not in stages:
            return "it does not say which index it reads by"
        return "each page is sorted, although its index is in order" if "SORT" in stages else ""

    async def marks(self) -> str:
        await self._collection.insert_one({"_id": "marks", "roomId": "marks", "seq": 1, "read": 5})
        writes = [UpdateOne({"_id": "marks"}, {"$max": {"read": value}}) for value in (7, 6)]
        await self._collection.bulk_write(writes, ordered=False)
        found = await self._collection.find_one({"_id": "marks"})
        if found is None or found["read"] != 7:
            raise Differs("$max does not keep the highest")
        return ""

    async def find_and_modify(self) -> str:
        change = {"$setOnInsert": {"roomId": "modify", "seq": 1}, "$inc": {"count": 1}}
        found = {}
        for _ in range(2):
            found = await self._collection.find_one_and_update(
                {"_id": "modify"}, change, upsert=True, return_document=ReturnDocument.AFTER
            )
        if found.get("count") != 2:
            raise Differs("it does not answer with the document as it then stands")
        return ""

    async def expiry(self) -> str:
        await self._collection.create_index("expiresAt", expireAfterSeconds=0)
        indexes = await self._collection.index_information()
        if not any(index.get("expireAfterSeconds") == 0 for index in indexes.values()):
            raise Differs("an index with expireAfterSeconds is not kept")
        return ""

    async def chunks(self) -> str:
        data = secrets.token_bytes(CHUNK_BYTES)
        await self._collection.insert_one({"_id": "chunk", "roomId": "chunk", "seq": 1, "data": Binary(data)})
        found = await self._collection.find_one({"_id": "chunk"})
        if found is None or bytes(found["data"]) != data:
            raise Differs("255 KiB of bytes do not come back as they were")
        return ""

    async def sessions(self) -> str:
        hello = await self._client.admin.command("hello")
        return "" if hello.get("logicalSessionTimeoutMinutes") else "none; the server uses neither"

    async def clock(self) -> str:
        hello = await self._client.admin.command("hello")
        difference = abs(hello["localTime"].replace(tzinfo=UTC) - now())
        if difference > MAX_CLOCK_SKEW:
            raise Differs(f"its clock differs from this machine's by {difference.total_seconds():.1f} s")
        return ""

    async def _failures(self, documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
        try:
            await self._collection.insert_many(documents, ordered=True)
        except BulkWriteError as error:
            failures: list[dict[str, Any]] = error.details["writeErrors"]
            return failures
        return []


def _stages(plan: dict[str, Any]) -> list[str]:
    """The stage names of a query plan, including nested plans and shards."""
    stages = [plan["stage"]] if "stage" in plan else []
    inner = [plan[name] for name in ("inputStage", "queryPlan", "winningPlan") if isinstance(plan.get(name), dict)]
    inner += [*plan.get("inputStages", []), *plan.get("shards", [])]
    return stages + [stage for part in inner for stage in _stages(part)]
