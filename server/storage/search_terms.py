"""The search index: sorted keys of people, and counts of the people behind each popular prefix.

A key is `term NUL user id`. MongoDB can count neither cheaply nor fast, so a tree of counted prefixes is kept: every
prefix of up to three characters, and longer ones below those that many people share. `stop` of a key is the longest of
its prefixes that is counted. Whoever asks for a prefix adds its count to the few keys that stopped above it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from server.storage.database import Database

T = TypeVar("T")

SEPARATOR: Final = "\0"
END: Final = "\U0010ffff"
DUPLICATE_KEY: Final = 11000
# Each counter remembers its last changes, so that a change which is applied twice counts once. Many more than are
# applied together, because one that was cut off is applied again after others.
REMEMBERED_CHANGES: Final = 64
# Writes in one call: few enough that it stays far below the time that a call may take.
CHUNK: Final = 100


class IndexChange(msgspec.Struct, frozen=True):
    """What one change of people does to the index. Applying it again changes nothing more.

    `add` maps keys to their stops, `drop` lists keys, `counts` says by how much each prefix grows. `indexed` is what
    the index holds about the user afterwards.
    """

    id: str
    add: dict[str, str]
    drop: list[str]
    counts: dict[str, int]
    indexed: dict[str, str]

    def to_document(self) -> dict[str, Any] | None:
        """The change as stored, without `indexed`; None when there is nothing to do."""
        if not (self.add or self.drop or self.counts):
            return None
        # Lists of pairs, because field names must hold neither dots nor NUL.
        return {
            "id": self.id,
            "add": [[key, stop] for key, stop in self.add.items()],
            "drop": self.drop,
            "counts": [[prefix, number] for prefix, number in self.counts.items()],
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "IndexChange":
        return cls(
            id=document["id"],
            add=dict(document["add"]),
            drop=list(document["drop"]),
            counts=dict(document["counts"]),
            indexed={},
        )


class SearchTerms:
    """The collections `search_keys` and `search_counts`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._keys: Any = database.collection("search_keys")
        self._counts: Any = database.collection("search_counts")

    async def prepare(self) -> None:
        await self._database.run(self._keys.create_index("key", unique=True, name="key"))
        await self._database.run(self._keys.create_index("stop", name="stop"))
        await self._database.run(self._counts.create_index("parent", name="parent"))

    async def apply(self, changes: Sequence[IndexChange]) -> None:
        """Bring keys and counts to what the changes of different users say, whatever part of it was done before."""
        for keys in _chunks(list({key: stop for change in changes for key, stop in change.add.items()}.items())):
            await self._add(keys)
        for dropped in _chunks([key for change in changes for key in change.drop]):
            await self._database.run(self._keys.delete_many({"key": {"$in": dropped}}))
        growths: dict[str, dict[str, int]] = {}
        for change in changes:
            for prefix, number in change.counts.items():
                growths.setdefault(prefix, {})[change.id] = number
        for some in _chunks(list(growths.items())):
            await self._count(dict(some))

    async def count(self, prefix: str) -> int:
        """How many people are counted under this prefix; those whose keys stopped above it are not."""
        document: dict[str, Any] | None = await self._database.run(self._counts.find_one({"_id": prefix}, {"n": 1}))
        return 0 if document is None else int(document["n"])

    async def popular(self, prefixes: Collection[str], least: int) -> set[str]:
        """Those of the prefixes that count at least `least` people."""
        cursor = self._counts.find({"_id": {"$in": list(prefixes)}, "n": {"$gte": least}}, {"_id": 1})
        documents: list[dict[str, Any]] = await self._database.run(cursor.to_list(None))
        return {document["_id"] for document in documents}

    async def children(self, prefix: str) -> list[tuple[str, int]]:
        """The counted prefixes that are one character longer, sorted, each with its count above 0."""
        cursor = self._counts.find({"parent": prefix}, {"n": 1})
        documents: list[dict[str, Any]] = await self._database.run(cursor.to_list(None))
        return sorted((document["_id"], document["n"]) for document in documents if document["n"] > 0)

    async def stopped(self, stops: Sequence[str], prefix: str) -> list[str]:
        """The keys that begin with `prefix` and stopped at one of `stops`, sorted."""
        if not stops:
            return []
        query = {"stop": {"$in": list(stops)}, "key": {"$gte": prefix, "$lt": prefix + END}}
        return await self._find(query)

    async def between(self, low: str, high: str) -> list[str]:
        """The keys from `low` up to and without `high`, sorted. It costs as much as there are."""
        return await self._find({"key": {"$gte": low, "$lt": high}})

    async def _find(self, query: dict[str, Any]) -> list[str]:
        cursor = self._keys.find(query, {"_id": 0, "key": 1})
        documents: list[dict[str, Any]] = await self._database.run(cursor.to_list(None))
        return sorted(document["key"] for document in documents)

    async def _add(self, keys: Sequence[tuple[str, str]]) -> None:
        documents = [{"key": key, "stop": stop} for key, stop in keys]
        try:
            await self._database.run(self._keys.insert_many(documents, ordered=False))
        except BulkWriteError as error:
            known = [documents[index] for index in _duplicates(error)]
            updates = [UpdateOne({"key": item["key"]}, {"$set": {"stop": item["stop"]}}) for item in known]
            await self._database.run(self._keys.bulk_write(updates, ordered=False))

    async def _count(self, growths: Mapping[str, Mapping[str, int]]) -> None:
        """Let each prefix grow by several changes at once; where some of them are known already, one by one."""
        prefixes = list(growths)
        try:
            updates = [_growth(prefix, growths[prefix]) for prefix in prefixes]
            await self._database.run(self._counts.bulk_write(updates, ordered=False))
        except BulkWriteError as error:
            for prefix in (prefixes[index] for index in _duplicates(error)):
                if len(growths[prefix]) > 1:
                    for change_id, number in growths[prefix].items():
                        await self._count({prefix: {change_id: number}})


def _growth(prefix: str, growth: Mapping[str, int]) -> UpdateOne:
    """Count by each change. It fails as a duplicate where the prefix is there and knows one of the changes."""
    ids = list(growth)
    return UpdateOne(
        {"_id": prefix, "changes": {"$nin": ids}},
        {
            "$inc": {"n": sum(growth.values())},
            "$push": {"changes": {"$each": ids, "$slice": -REMEMBERED_CHANGES}},
            "$setOnInsert": {"parent": prefix[:-1]},
        },
        upsert=True,
    )


def _duplicates(error: BulkWriteError) -> list[int]:
    """The positions of the writes that failed as duplicates; raises the error where one failed otherwise."""
    failures = error.details["writeErrors"]
    if any(failure["code"] != DUPLICATE_KEY for failure in failures):
        raise error
    return [failure["index"] for failure in failures]


def _chunks(items: Sequence[T]) -> Iterator[list[T]]:
    for start in range(0, len(items), CHUNK):
        yield list(items[start : start + CHUNK])
