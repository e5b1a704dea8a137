"""Which messages have changed: the number of each one's last change in its room, and which are pinned."""

from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple

from pymongo import UpdateOne

from server.storage.mongo.database import Database
from server.storage.mongo.messages import Change

# Entries that one call reads.
MAX_FOUND: Final = 1_000


class NotedChange(NamedTuple):
    message_id: str
    rev: int


class ChangeStore:
    """The collection `changes`: an entry for every message that has ever changed, beside the messages.

    An entry is stored before its message is: a crash in between leaves one whose message has not changed, and nobody
    misses anything. Kept apart so that messages that never change cost nothing: an index for changed messages alone
    made inserts of all others dearer by up to 17 % (docs/messages.md).
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._changes = database.collection("changes")

    async def prepare(self) -> None:
        await self._database.run(self._changes.create_index, [("roomId", 1), ("rev", 1)])
        for rare in ("pinnedIn", "freed"):
            await self._database.run(self._changes.create_index, rare, sparse=True)

    async def note(self, changes: Sequence[Change]) -> None:
        """Note changes that are about to be stored. Raises `Unavailable`."""
        updates = []
        for before, after in changes:
            fields: dict[str, Any] = {"roomId": after.room_id, "seq": after.seq}
            update: dict[str, Any] = {"$set": fields, "$max": {"rev": after.rev}}
            if after.pinned_at is not None:
                fields["pinnedIn"] = after.room_id
            else:
                update["$unset"] = {"pinnedIn": True}
            if before.attachment_url is not None and after.attachment_url is None:
                fields["freed"] = before.attachment_url
            updates.append(UpdateOne({"_id": after.id}, update, upsert=True))
        await self._database.run(self._changes.bulk_write, updates, ordered=False)

    async def find_since(self, room_id: str, rev: int, after: int, upto: int, limit: int) -> list[NotedChange]:
        """The last changes above `rev` of messages with `after < seq <= upto`, ascending."""
        query = {"roomId": room_id, "rev": {"$gt": rev}, "seq": {"$gt": after, "$lte": upto}}
        cursor = self._changes.find(query, {"rev": 1}).sort("rev", 1).limit(limit)
        documents = await self._database.run(cursor.to_list, None)
        return [NotedChange(document["_id"], document["rev"]) for document in documents]

    async def find_pinned(self, room_id: str) -> list[str]:
        """The ids of the pinned messages of a room, in no order."""
        cursor = self._changes.find({"pinnedIn": room_id}, {"_id": 1}).limit(MAX_FOUND)
        return [document["_id"] for document in await self._database.run(cursor.to_list, None)]

    async def find_freed(self) -> dict[str, str]:
        """The attachments of some deleted messages, by message, that are not released yet."""
        cursor = self._changes.find({"freed": {"$exists": True}}, {"freed": 1}).limit(MAX_FOUND)
        return {document["_id"]: document["freed"] for document in await self._database.run(cursor.to_list, None)}

    async def forget_freed(self, message_id: str) -> None:
        await self._database.run(self._changes.update_one, {"_id": message_id}, {"$unset": {"freed": True}})

    async def remove(self, message_ids: Collection[str]) -> None:
        await self._database.run(self._changes.delete_many, {"_id": {"$in": list(message_ids)}})
