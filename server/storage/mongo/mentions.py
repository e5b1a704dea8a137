"""Which messages mention somebody, so that mentions are counted without reading the log."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from pymongo import DeleteOne, ReplaceOne

from server.models import Message
from server.storage.mongo.database import Database

# Each is an index lookup.
ROOMS_PER_QUERY: Final = 100


class MentionStore:
    """The collection `mentions`: an entry for every message that mentions somebody. It follows from the log.

    Entries are stored after their messages, before these are acknowledged, and again when a log is read on from its
    saved end. So messages up to the saved end have theirs.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._mentions = database.collection("mentions")

    async def prepare(self) -> None:
        await self._database.run(self._mentions.create_index, [("roomId", 1), ("seq", 1)])

    async def put(self, messages: Sequence[Message]) -> None:
        """Store whom these messages mention, in place of what was stored of them. Raises `Unavailable`."""
        updates: list[Any] = [
            ReplaceOne({"_id": message.id}, _document(message), upsert=True)
            if message.mentions_anybody
            else DeleteOne({"_id": message.id})
            for message in messages
        ]
        if updates:
            await self._database.run(self._mentions.bulk_write, updates, ordered=False)

    async def count(self, user_id: str, after: Mapping[str, int]) -> dict[str, int]:
        """How many messages after the `seq` given for each room mention the user, by room. Own ones do not count."""
        places = [{"roomId": room_id, "seq": {"$gt": seq}} for room_id, seq in after.items()]
        counts: dict[str, int] = {}
        for start in range(0, len(places), ROOMS_PER_QUERY):
            some = places[start : start + ROOMS_PER_QUERY]
            cursor = self._mentions.find(some[0] if len(some) == 1 else {"$or": some})
            for document in await self._database.run(cursor.to_list, None):
                is_meant = document["room"] or user_id in document["userIds"]
                if is_meant and document["senderId"] != user_id:
                    counts[document["roomId"]] = counts.get(document["roomId"], 0) + 1
        return counts

    async def remove(self, message_ids: Collection[str]) -> None:
        await self._database.run(self._mentions.delete_many, {"_id": {"$in": list(message_ids)}})


def _document(message: Message) -> dict[str, Any]:
    return {
        "_id": message.id,
        "roomId": message.room_id,
        "seq": message.seq,
        "senderId": message.sender_id,
        "userIds": list(message.mentions),
        "room": message.mentions_room,
    }
