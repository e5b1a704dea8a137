"""Search index: a tree of prefixes (nodes), each with a user count and some keys.

A key is `term NUL user id`, with `PUBLIC` before it in the part of the index that has no emails and phone numbers.
MongoDB can neither count nor list part of a range cheaply, so nodes store both: `n` counts the users under a prefix,
and `keys` holds those inserted while the prefix was not yet popular. So a popular prefix holds as many keys as a result
needs, and any other prefix holds all keys under it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from server.storage.mongo.database import DUPLICATE_KEY, Database

T = TypeVar("T")

SEPARATOR: Final = "\0"
# Begins the keys of what everybody may be found by, whoever may see emails and phone numbers.
PUBLIC: Final = "\1"
OLDER_COLLECTIONS: Final = ("search_keys", "search_counts")
# Each node keeps the ids of its last changes, so that applying one twice counts once. More than one batch, because
# interrupted changes are applied again, together with new ones.
MAX_RECENT_CHANGES: Final = 48
# Nodes per call, to stay far below the call timeout: the embedded store compares each key of `$in` with all others.
CHUNK: Final = 50


class IndexChange(msgspec.Struct, frozen=True):
    """The index change for one update of a user. Idempotent.

    `add` and `drop` map keys to the nodes that hold them, `counts` maps prefixes to increments, `born` maps prefixes
    that may be new to their parents. `indexed` is the resulting index content of the user.
    """

    id: str
    add: dict[str, str]
    drop: dict[str, str]
    counts: dict[str, int]
    born: dict[str, str]
    indexed: dict[str, str]

    def to_document(self) -> dict[str, Any] | None:
        """The change as stored, without `indexed`; None if it is empty."""
        if not (self.add or self.drop or self.counts):
            return None
        # Lists of pairs, because field names must not contain dots or NUL.
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
    """A prefix: its user count, the keys stored at it, its child prefixes that are nodes, and the ids of its last
    changes."""

    prefix: str
    count: int = 0
    keys: list[str] = []
    below: list[str] = []
    changes: list[str] = []

    def grow(self, change_id: str, growth: "Growth") -> None:
        """Apply a new change in memory, as `SearchTerms.apply` does in the store."""
        self.count += growth.number
        self.keys += growth.keys
        self.below += [prefix for prefix in growth.below if prefix not in self.below]
        self.changes = [*self.changes[1 - MAX_RECENT_CHANGES :], change_id]

    def to_document(self) -> dict[str, Any]:
        # As updates would leave it: empty lists are absent.
        lists = {"keys": self.keys, "below": self.below, "changes": self.changes}
        return {"_id": self.prefix, "n": self.count} | {name: value for name, value in lists.items() if value}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Node":
        lists = {name: document.get(name, []) for name in ("keys", "below", "changes")}
        return cls(document["_id"], document["n"], **lists)


class Growth(msgspec.Struct):
    """What one change adds to one node."""

    number: int = 0
    keys: list[str] = []
    below: list[str] = []

    @property
    def is_plain(self) -> bool:
        return not (self.keys or self.below)


def growths_of(change: IndexChange) -> dict[str, Growth]:
    """The growth of each node, by prefix."""
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
        """Does nothing: nodes are only read by `_id`."""

    async def apply(self, changes: Sequence[IndexChange]) -> None:
        """Apply changes of different users, including partly applied ones. Idempotent."""
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
        """Drop the collections of the index before version 2."""
        for name in OLDER_COLLECTIONS:
            await self._database.run(self._database.collection(name).drop)

    async def counts(self, prefixes: Collection[str]) -> dict[str, int]:
        """The user count of each prefix that is a node."""
        return {document["_id"]: document["n"] for document in await self._find(prefixes, {"n": 1})}

    async def nodes(self, prefixes: Collection[str]) -> dict[str, Node]:
        """The nodes of those prefixes that have one."""
        # No projection: on the embedded store it costs more than it saves.
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
        """Apply one change to many existing nodes with one `update_many`, at a third of the cost."""
        for some in _chunks(prefixes):
            await self._database.run(
                self._nodes.update_many,
                {"_id": {"$in": some}, "changes": {"$ne": change_id}},
                {"$inc": {"n": number}, "$push": {"changes": _recent([change_id])}},
            )

    async def _grow(self, growing: Mapping[str, Mapping[str, Growth]]) -> None:
        """Apply several changes per node in one upsert, or one by one if the node has some of them already."""
        prefixes = list(growing)
        try:
            updates = [_update(prefix, growing[prefix], upsert=True) for prefix in prefixes]
            await self._database.run(self._nodes.bulk_write, updates, ordered=False)
        except BulkWriteError as error:
            existing = [prefixes[index] for index in _duplicates(error)]
            single = [
                _update(prefix, {change_id: growth}, upsert=False)
                for prefix in existing
                for change_id, growth in growing[prefix].items()
            ]
            for some in _chunks(single):
                await self._database.run(self._nodes.bulk_write, some, ordered=False)


def _update(prefix: str, growths: Mapping[str, Growth], *, upsert: bool) -> UpdateOne:
    """Apply all changes, or none if the node has one of them: an upsert then fails with a duplicate key."""
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
    return {"$each": change_ids, "$slice": -MAX_RECENT_CHANGES}


def _duplicates(error: BulkWriteError) -> list[int]:
    """The indexes of the writes that failed with a duplicate key; raises the error if one failed otherwise."""
    failures = error.details["writeErrors"]
    if any(failure["code"] != DUPLICATE_KEY for failure in failures):
        raise error
    return [failure["index"] for failure in failures]


def _pairs(values: Mapping[str, T]) -> list[list[Any]]:
    return [[key, value] for key, value in values.items()]


def _chunks(items: Sequence[T]) -> Iterator[list[T]]:
    for start in range(0, len(items), CHUNK):
        yield list(items[start : start + CHUNK])
