"""The message log as a collection: ordered batch inserts and bounded range reads."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from server.models import Message, Notice, Reaction
from server.storage.mongo.database import DUPLICATE_KEY, Database

# Page size of range reads, so that no query reads a whole room.
RANGE_STEP: Final = 1_000
# In seconds: a search through all messages.
FIND_TIMEOUT: Final = 60.0
# Messages of a range that are counted in one call.
COUNT_STEP: Final = 10_000
# Each is an index lookup, 0.25 ms on the embedded store; a real MongoDB plans each branch by itself.
PLACES_PER_QUERY: Final = 100
# The embedded store matches every message that it finds against all branches: 100 messages of 10 ranges take 20 ms, of
# 100 ranges 100 ms.
RANGES_PER_QUERY: Final = 10

# Fields that most messages lack, and how they are stored.
_OPTIONAL: Final = (
    ("attachment_url", "attachmentUrl"),
    ("client_message_id", "clientMessageId"),
    ("notices", "notices"),
    ("reply_to", "replyTo"),
    ("mentions_room", "mentionsRoom"),
    ("forwarded_from", "forwardedFrom"),
    ("rev", "rev"),
    ("edited_at", "editedAt"),
    ("deleted_at", "deletedAt"),
    ("pinned_at", "pinnedAt"),
    ("pinned_by", "pinnedBy"),
)


class Range(NamedTuple):
    """The messages of a room with `after < seq <= upto`."""

    room_id: str
    after: int
    upto: int


class Change(NamedTuple):
    """A message before and after a change."""

    before: Message
    after: Message


class MessageStore:
    """The collection `messages`, with two unique keys: `_id` and `(roomId, seq)`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._messages = database.collection("messages")

    async def prepare(self) -> None:
        await self._database.run(self._messages.create_index, [("roomId", 1), ("seq", 1)], unique=True)

    async def insert(self, messages: Sequence[Message]) -> int:
        """Store in order and return the number stored; if fewer than all, the next one collided on a unique key.

        Raises `Unavailable` if the outcome is unknown: some, all or none may be stored.
        """
        documents = [message_to_document(message) for message in messages]
        try:
            await self._database.run(self._messages.insert_many, documents, ordered=True)
        except BulkWriteError as error:
            failure = error.details["writeErrors"][0]
            if failure["code"] != DUPLICATE_KEY:
                raise
            return int(failure["index"])
        return len(messages)

    async def change(self, changes: Sequence[Change]) -> int:
        """Replace what changes about these messages, each if it is as it was before. Returns the number replaced.

        Raises `Unavailable` if the outcome is unknown: some, all or none may be replaced.
        """
        updates = []
        for before, after in changes:
            new = _optional_fields(after)
            missing = dict.fromkeys(sorted(set(_optional_fields(before)) - set(new)), True)
            update: dict[str, Any] = {"$set": {"content": after.content, "type": after.type, **new}}
            if missing:
                update["$unset"] = missing
            updates.append(UpdateOne({"_id": after.id, "rev": before.rev or None}, update))
        result = await self._database.run(self._messages.bulk_write, updates, ordered=False)
        return int(result.matched_count)

    async def find(self, message_id: str) -> Message | None:
        document = await self._database.run(self._messages.find_one, {"_id": message_id})
        return None if document is None else message_from_document(document)

    async def find_many(self, message_ids: Collection[str]) -> dict[str, Message]:
        documents = await self._database.find_by_keys(self._messages, "_id", message_ids)
        return {document["_id"]: message_from_document(document) for document in documents}

    async def read_range(self, room_id: str, after: int, upto: int) -> list[Message]:
        """The messages with `after < seq <= upto`, ascending by `seq`."""
        messages: list[Message] = []
        while after < upto:
            step = min(upto, after + RANGE_STEP)
            bounds = {"roomId": room_id, "seq": {"$gt": after, "$lte": step}}
            # In one reply: a second one costs another round trip, and fails if the store was restarted in between.
            cursor = self._messages.find(bounds, batch_size=RANGE_STEP + 1).sort("seq", 1)
            documents = await self._database.run(cursor.to_list, None)
            messages.extend(message_from_document(document) for document in documents)
            after = step
        return messages

    async def read_ranges(self, ranges: Sequence[Range]) -> list[Message]:
        """The messages of several ranges, in no order. The ranges should hold a few hundred messages at most."""
        places = [{"roomId": one.room_id, "seq": {"$gt": one.after, "$lte": one.upto}} for one in ranges]
        messages: list[Message] = []
        for start in range(0, len(places), RANGES_PER_QUERY):
            some = places[start : start + RANGES_PER_QUERY]
            cursor = self._messages.find(some[0] if len(some) == 1 else {"$or": some})
            documents = await self._database.run(cursor.to_list, None)
            messages.extend(message_from_document(document) for document in documents)
        return messages

    async def count_own(self, room_id: str, user_id: str, after: int, upto: int) -> int:
        """The number of a user's messages with `after < seq <= upto`, without notices."""
        count = 0
        while after < upto:
            step = min(upto, after + COUNT_STEP)
            query = {
                "roomId": room_id,
                "seq": {"$gt": after, "$lte": step},
                "senderId": user_id,
                "type": {"$ne": "NOTICE"},
            }
            count += await self._database.run(self._messages.count_documents, query)
            after = step
        return count

    async def find_some(self, room_id: str) -> list[Message]:
        """Some messages of a room; none once all are removed."""
        cursor = self._messages.find({"roomId": room_id}).limit(RANGE_STEP)
        return [message_from_document(document) for document in await self._database.run(cursor.to_list, None)]

    async def remove(self, message_ids: Collection[str]) -> None:
        await self._database.run(self._messages.delete_many, {"_id": {"$in": list(message_ids)}})

    async def find_attachments(self, after: str, limit: int) -> list[Message]:
        """The next messages that have an attachment, in the order of their ids. An empty `after` begins."""
        query = {"_id": {"$gt": after}, "attachmentUrl": {"$exists": True}}
        cursor = self._messages.find(query).sort("_id", 1).limit(limit)
        documents = await self._database.run(cursor.to_list, None, timeout=FIND_TIMEOUT)
        return [message_from_document(document) for document in documents]

    async def find_longer(self, ends: Mapping[str, int]) -> set[str]:
        """`ends` maps room ids to their last known `seq`. Returns the rooms whose logs have a message after it."""
        places = [{"roomId": room_id, "seq": end + 1} for room_id, end in ends.items()]
        longer: set[str] = set()
        for start in range(0, len(places), PLACES_PER_QUERY):
            some = places[start : start + PLACES_PER_QUERY]
            query = some[0] if len(some) == 1 else {"$or": some}
            cursor = self._messages.find(query, {"_id": False, "roomId": True})
            longer.update(document["roomId"] for document in await self._database.run(cursor.to_list, None))
        return longer

    async def read_tail(self, room_id: str, after: int) -> list[Message]:
        """All messages with `seq > after`, ascending by `seq`. Stops at a gap; a log has none."""
        messages: list[Message] = []
        while step := await self.read_range(room_id, after, after + RANGE_STEP):
            messages.extend(step)
            after = step[-1].seq
        return messages


def message_to_document(message: Message) -> dict[str, Any]:
    document: dict[str, Any] = {
        "_id": message.id,
        "roomId": message.room_id,
        "seq": message.seq,
        "senderId": message.sender_id,
        "senderSeq": message.sender_seq,
        "content": message.content,
        "type": message.type,
        "sentAt": message.sent_at,
    }
    return document | _optional_fields(message)


def _optional_fields(message: Message) -> dict[str, Any]:
    """What most messages lack is not stored for them."""
    fields = {stored: getattr(message, name) for name, stored in _OPTIONAL if getattr(message, name)}
    if message.notice is not None:
        fields["notice"] = msgspec.to_builtins(message.notice)
    if message.reactions:
        fields["reactions"] = [
            {"emoji": reaction.emoji, "userIds": list(reaction.user_ids)} for reaction in message.reactions
        ]
    if message.mentions:
        fields["mentions"] = list(message.mentions)
    return fields


def message_from_document(document: dict[str, Any]) -> Message:
    extras = {name: document[stored] for name, stored in _OPTIONAL if stored in document}
    if "notice" in document:
        extras["notice"] = msgspec.convert(document["notice"], Notice)
    if "reactions" in document:
        extras["reactions"] = tuple(
            Reaction(reaction["emoji"], tuple(reaction["userIds"])) for reaction in document["reactions"]
        )
    if "mentions" in document:
        extras["mentions"] = tuple(document["mentions"])
    return Message(
        id=document["_id"],
        room_id=document["roomId"],
        seq=document["seq"],
        sender_id=document["senderId"],
        sender_seq=document["senderSeq"],
        content=document["content"],
        type=document["type"],
        sent_at=document["sentAt"],
        **extras,
    )
