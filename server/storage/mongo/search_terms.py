"""The search index: a tree of prefixes, each with the number of people behind it and the first of their keys.

A key is `term NUL user id`. MongoDB can neither count nor list a part of a range cheaply, so both are kept: `n` counts
the people behind a prefix, and `keys` are those that stopped there, because the prefix was not popular yet when they
came. So a popular prefix holds as many keys as an answer may need, and every other one all that are behind it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from server.storage.mongo.database import DUPLICATE_KEY, Database

T = TypeVar("T")

SEPARATOR: Final = "\0"
OLDER_COLLECTIONS: Final = ("search_keys", "search_counts")
# Each node remembers its last changes, so that a change which is applied twice counts once. More than are applied
# together, because changes that were cut off are applied again, with others that come at the same time.
REMEMBERED_CHANGES: Final = 48
# Nodes in one call: few enough that it stays far below the time that a call may take. The embedded store compares each
# key asked for with all others.
CHUNK: Final = 50


class IndexChange(msgspec.Struct, frozen=True):
    """What one change of a person does to the index. Applying it again changes nothing more.

    `add` and `drop` map keys to their stops, `counts` says by how much each prefix grows, `born` maps prefixes that
    may be new to the ones above them. `indexed` is what the index holds about the user afterwards.
    """

    id: str
    add: dict[str, str]
    drop: dict[str, str]
    counts: dict[str, int]
    born: dict[str, str]
    indexed: dict[str, str]

    def to_document(self) -> dict[str, Any] | None:
        """The change as stored, without `indexed`; None when there is nothing to do."""
        if not (self.add or self.drop or self.counts):
            return None
        # Lists of pairs, because field names must hold neither dots nor NUL.
        return {
            "id": self.id,
            "add": _pairs(self.add),
            "drop": _pairs(self.drop),
            "counts": _pairs(self.counts),
            "born": _pairs(self.born),
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "IndexChange":
        parts = {name: dict(document[name]) for name in ("add", "drop", "counts", "born")}
        return cls(id=document["id"], indexed={}, **parts)


class Node(msgspec.Struct):
    """A prefix: how many people are counted behind it, the keys that stopped at it, the counted prefixes right below
    it, and its last changes."""

    prefix: str
    count: int = 0
    keys: list[str] = []
    below: list[str] = []
    changes: list[str] = []

    def grow(self, change_id: str, growth: "Growth") -> None:
        """What `SearchTerms.apply` does to a node in the store that does not know the change."""
        self.count += growth.number
        self.keys += growth.keys
        self.below += [prefix for prefix in growth.below if prefix not in self.below]
        self.changes = [*self.changes[1 - REMEMBERED_CHANGES :], change_id]

    def to_document(self) -> dict[str, Any]:
        # As updates would leave it: what nobody added is not there.
        lists = {"keys": self.keys, "below": self.below, "changes": self.changes}
        return {"_id": self.prefix, "n": self.count} | {name: value for name, value in lists.items() if value}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Node":
        lists = {name: document.get(name, []) for name in ("keys", "below", "changes")}
        return cls(document["_id"], document["n"], **lists)


class Growth(msgspec.Struct):
    """What one change does to one node, beside the keys that go from it."""

    number: int = 0
    keys: list[str] = []
    below: list[str] = []

    @property
    def is_plain(self) -> bool:
        return not (self.keys or self.below)


def growths_of(change: IndexChange) -> dict[str, Growth]:
    """By prefix."""
    growths = {prefix: Growth(number) for prefix, number in change.counts.items()}
    for key, stop in change.add.items():
        growths.setdefault(stop, Growth()).keys.append(key)
    for prefix, above in change.born.items():
        growths.setdefault(above, Growth()).below.append(prefix)
    return growths


class SearchTerms:
    """The collection `search_nodes`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._nodes: Any = database.collection("search_nodes")

    async def prepare(self) -> None:
        """Nodes are only ever asked for by their prefixes, so that no write has to pay for another index."""

    async def apply(self, changes: Sequence[IndexChange]) -> None:
        """Bring the nodes to what the changes of different users say, whatever part of it was done before."""
        dropped: dict[str, list[str]] = {}
        growing: dict[str, dict[str, Growth]] = {}
        for change in changes:
            for key, stop in change.drop.items():
                dropped.setdefault(stop, []).append(key)
            for prefix, growth in growths_of(change).items():
                growing.setdefault(prefix, {})[change.id] = growth
        await self._drop(dropped)
        alike: dict[tuple[str, int], list[str]] = {}
        for prefix, growths in list(growing.items()):
            change_id, growth = next(iter(growths.items()))
            if len(growths) == 1 and growth.is_plain:
                alike.setdefault((change_id, growth.number), []).append(prefix)
                del growing[prefix]
        for (change_id, number), prefixes in alike.items():
            await self._count(change_id, number, prefixes)
        for some in _chunks(list(growing.items())):
            await self._grow(dict(some))

    async def drop_older(self) -> None:
        """Remove the collections that held the index before version 2."""
        for name in OLDER_COLLECTIONS:
            await self._database.run(self._database.collection(name).drop)

    async def counts(self, prefixes: Collection[str]) -> dict[str, int]:
        """How many people are counted behind each of the prefixes that are nodes."""
        return {document["_id"]: document["n"] for document in await self._find(prefixes, {"n": 1})}

    async def nodes(self, prefixes: Collection[str]) -> dict[str, Node]:
        """Those of the prefixes that are nodes."""
        # Whole: on the embedded store, leaving out a field costs more than it saves.
        return {document["_id"]: Node.from_document(document) for document in await self._find(prefixes, None)}

    async def _find(self, prefixes: Collection[str], fields: Mapping[str, int] | None) -> list[dict[str, Any]]:
        documents: list[dict[str, Any]] = []
        for some in _chunks(list(prefixes)):
            cursor = self._nodes.find({"_id": {"$in": some}}, fields)
            documents.extend(await self._database.run(cursor.to_list, None))
        return documents

    async def _drop(self, dropped: Mapping[str, list[str]]) -> None:
        for some in _chunks(list(dropped.items())):
            updates = [UpdateOne({"_id": stop}, {"$pull": {"keys": {"$in": keys}}}) for stop, keys in some]
            await self._database.run(self._nodes.bulk_write, updates, ordered=False)

    async def _count(self, change_id: str, number: int, prefixes: list[str]) -> None:
        """Let nodes that are there grow alike by one change: in one write for many, which costs a third."""
        for some in _chunks(prefixes):
            await self._database.run(
                self._nodes.update_many,
                {"_id": {"$in": some}, "changes": {"$ne": change_id}},
                {"$inc": {"n": number}, "$push": {"changes": _recent([change_id])}},
            )

    async def _grow(self, growing: Mapping[str, Mapping[str, Growth]]) -> None:
        """Let each node grow by several changes at once; where some of them are known already, one by one."""
        prefixes = list(growing)
        try:
            updates = [_update(prefix, growing[prefix], upsert=True) for prefix in prefixes]
            await self._database.run(self._nodes.bulk_write, updates, ordered=False)
        except BulkWriteError as error:
            there = [prefixes[index] for index in _duplicates(error)]
            single = [
                _update(prefix, {change_id: growth}, upsert=False)
                for prefix in there
                for change_id, growth in growing[prefix].items()
            ]
            for some in _chunks(single):
                await self._database.run(self._nodes.bulk_write, some, ordered=False)


def _update(prefix: str, growths: Mapping[str, Growth], *, upsert: bool) -> UpdateOne:
    """Grow by all these changes, or by none where the node knows one of them: an upsert fails as a duplicate then."""
    ids = list(growths)
    keys = [key for growth in growths.values() for key in growth.keys]
    below = [lower for growth in growths.values() for lower in growth.below]
    return UpdateOne(
        {"_id": prefix, "changes": {"$nin": ids}},
        {
            "$inc": {"n": sum(growth.number for growth in growths.values())},
            "$push": {"changes": _recent(ids)} | ({"keys": {"$each": keys}} if keys else {}),
            **({"$addToSet": {"below": {"$each": below}}} if below else {}),
        },
        upsert=upsert,
    )


def _recent(change_ids: list[str]) -> dict[str, Any]:
    return {"$each": change_ids, "$slice": -REMEMBERED_CHANGES}


def _duplicates(error: BulkWriteError) -> list[int]:
    """The positions of the writes that failed as duplicates; raises the error where one failed otherwise."""
    failures = error.details["writeErrors"]
    if any(failure["code"] != DUPLICATE_KEY for failure in failures):
        raise error
    return [failure["index"] for failure in failures]


def _pairs(values: Mapping[str, T]) -> list[list[Any]]:
    return [[key, value] for key, value in values.items()]


def _chunks(items: Sequence[T]) -> Iterator[list[T]]:
    for start in range(0, len(items), CHUNK):
        yield list(items[start : start + CHUNK])
