"""Rooms and their members, with the delivered and read positions of each member."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final

from pymongo import UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError

from server.models import DELIVERY, Member, Message, Room, RoomEnd
from server.storage.mongo.database import DUPLICATE_KEY, Database
from server.storage.mongo.messages import message_from_document, message_to_document

# Page size: a user may be in any number of rooms, and each call has its own timeout.
MEMBERS_PER_CALL: Final = 1_000
# In seconds; 100,000 rooms take a few.
FIND_TIMEOUT: Final = 60.0


class RoomStore:
    """The collection `rooms`. Callers derive the ids, so the primary key prevents duplicate rooms."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rooms = database.collection("rooms")

    async def prepare(self) -> None:
        # For `find_grown_since`. It makes the update of a room a third dearer, which is done once a second at most.
        await self._database.run(self._rooms.create_index, "lastMessage.sentAt")

    async def create(self, room: Room) -> bool:
        """Store a new room, whose members are stored. Returns False if the id exists."""
        document = {
            "_id": room.id,
            "createdBy": room.created_by,
            "bookingId": room.booking_id,
            "createdAt": room.created_at,
            "lastSeq": 0,
        }
        try:
            await self._database.run(self._rooms.insert_one, document)
        except DuplicateKeyError:
            return False
        return True

    async def find_many(self, room_ids: Collection[str]) -> list[Room]:
        documents = await self._database.find_by_keys(self._rooms, "_id", room_ids)
        return [_room_from_document(document) for document in documents]

    async def find_older(self, after: str, limit: int) -> list[tuple[str, list[str]]]:
        """The next rooms from before version 3, ascending, with the users stored in them. An empty `after` begins."""
        cursor = self._rooms.find({"_id": {"$gt": after}, "userIds": {"$exists": True}}, {"userIds": 1})
        documents = await self._database.run(cursor.sort("_id", 1).limit(limit).to_list, None, timeout=FIND_TIMEOUT)
        return [(document["_id"], document["userIds"]) for document in documents]

    async def find_grown_since(self, moment: datetime) -> list[str]:
        """The ids of rooms whose saved last message is not older, the latest last."""
        found = await self._database.run(
            self._rooms.find({"lastMessage.sentAt": {"$gte": moment}}, {"lastMessage.sentAt": 1}).to_list,
            None,
            timeout=FIND_TIMEOUT,
        )
        found.sort(key=lambda document: document["lastMessage"]["sentAt"])
        return [document["_id"] for document in found]

    async def find_ids(self, after: str, limit: int) -> list[str]:
        """The next ids of rooms in ascending order. An empty `after` begins."""
        cursor = self._rooms.find({"_id": {"$gt": after}}, {"_id": 1}).sort("_id", 1).limit(limit)
        return [document["_id"] for document in await self._database.run(cursor.to_list, None)]

    async def save_ends(self, ends: Sequence[RoomEnd]) -> None:
        """Save the last message and the cursors of each room. A room whose saved message is newer is not changed."""
        updates = [_end_update(end, end.last_message) for end in ends if end.last_message is not None]
        if updates:
            await self._database.run(self._rooms.bulk_write, updates, ordered=False)


class MemberStore:
    """The collection `members`: one document per room and user, with delivered and read positions."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._members = database.collection("members")

    async def prepare(self) -> None:
        await self._database.run(self._members.create_index, "userId")
        await self._database.run(self._members.create_index, "roomId")

    async def create(self, members: Sequence[Member]) -> None:
        """Store new members; existing ones are not changed."""
        documents = [
            {
                "_id": _member_id(member.room_id, member.user_id),
                "roomId": member.room_id,
                "userId": member.user_id,
                "peerId": member.peer_id,
                "role": member.role,
                "lastDeliveredSeq": 0,
                "lastReadSeq": 0,
                "readOwn": 0,
            }
            for member in members
        ]
        try:
            await self._database.run(self._members.insert_many, documents, ordered=False)
        except BulkWriteError as error:
            if any(failure["code"] != DUPLICATE_KEY for failure in error.details["writeErrors"]):
                raise

    async def of_rooms(self, room_ids: Collection[str]) -> list[Member]:
        documents = await self._database.find_by_keys(self._members, "roomId", room_ids)
        return [_member_from_document(document) for document in documents]

    async def of_user(self, user_id: str) -> list[Member]:
        documents: list[dict[str, Any]] = []
        cursor = self._members.find({"userId": user_id})
        while some := await self._database.run(cursor.to_list, MEMBERS_PER_CALL):
            documents.extend(some)
        return [_member_from_document(document) for document in documents]

    async def save_marks(self, members: Sequence[Member]) -> None:
        """Raise the positions to those given; none is ever lowered."""
        updates = [
            UpdateOne(
                {"_id": _member_id(member.room_id, member.user_id)},
                {
                    "$max": {
                        "lastDeliveredSeq": member.last_delivered_seq,
                        "lastReadSeq": member.last_read_seq,
                        "readOwn": member.read_own,
                    }
                },
            )
            for member in members
        ]
        if updates:
            await self._database.run(self._members.bulk_write, updates, ordered=False)


def _member_id(room_id: str, user_id: str) -> str:
    return f"{room_id}:{user_id}"


def _end_update(end: RoomEnd, message: Message) -> UpdateOne:
    changes: dict[str, Any] = {"$set": {"lastSeq": message.seq, "lastMessage": message_to_document(message)}}
    if end.cursors:
        changes["$max"] = {f"cursors.{consumer}": seq for consumer, seq in end.cursors.items()}
    return UpdateOne({"_id": end.room_id, "lastSeq": {"$lte": message.seq}}, changes)


def _room_from_document(document: dict[str, Any]) -> Room:
    last_message = document.get("lastMessage")
    return Room(
        id=document["_id"],
        # Older versions stored both users, the one who created it first.
        created_by=document.get("createdBy") or document["userIds"][0],
        booking_id=document["bookingId"],
        created_at=document["createdAt"],
        last_seq=document["lastSeq"],
        last_message=None if last_message is None else message_from_document(last_message),
        # Older versions stored the delivered position as the end.
        cursors=document.get("cursors", {DELIVERY: document["lastSeq"]}),
    )


def _member_from_document(document: dict[str, Any]) -> Member:
    return Member(
        room_id=document["roomId"],
        user_id=document["userId"],
        peer_id=document["peerId"],
        role=document["role"],
        last_delivered_seq=document["lastDeliveredSeq"],
        last_read_seq=document["lastReadSeq"],
        read_own=document["readOwn"],
    )
