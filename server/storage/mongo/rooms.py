"""Rooms and their members, with the delivered and read positions of each member."""

import re
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
from pymongo import ReturnDocument, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError

from server.lookalikes import fold
from server.models import DELIVERY, Member, Message, Position, Room, RoomDetails, RoomEnd
from server.storage.mongo.database import DUPLICATE_KEY, Database
from server.storage.mongo.messages import message_from_document, message_to_document

# Page size: a user may be in any number of rooms, and each call has its own timeout.
MEMBERS_PER_CALL: Final = 1_000
# In seconds; 100,000 rooms take a few.
FIND_TIMEOUT: Final = 60.0


# The `changedSeq` of marks without a membership: every notice comes later.
NOT_STORED: Final = -1


class OpenPlace(NamedTuple):
    """The place of a room in the list of open rooms."""

    name: str
    room_id: str


class RoomStore:
    """The collection `rooms`. Callers derive the ids, so the primary key prevents duplicate rooms."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rooms = database.collection("rooms")
        # Deleted rooms whose messages are still to be removed.
        self._ended = database.collection("ended_rooms")

    async def prepare(self) -> None:
        # For `find_grown_since`. It makes the update of a room a third dearer, which is done once a second at most.
        await self._database.run(self._rooms.create_index, "lastMessage.sentAt")
        await self._database.run(self._rooms.create_index, "openName", sparse=True)

    async def create(self, room: Room) -> bool:
        """Store a new room, whose members are stored. Returns False if the id exists."""
        document: dict[str, Any] = {
            "_id": room.id,
            "createdBy": room.created_by,
            "bookingId": room.booking_id,
            "createdAt": room.created_at,
            "lastSeq": 0,
        }
        if room.type != "DIRECT":
            document |= {"type": room.type, **_detail_fields(room.details)}
        try:
            await self._database.run(self._rooms.insert_one, document)
        except DuplicateKeyError:
            return False
        return True

    async def end(self, room_id: str, image: str | None) -> None:
        """Delete a room; until `forget_ended`, `find_ended` finds it. Ended twice, it stays so."""
        await self._database.run(self._ended.update_one, {"_id": room_id}, {"$set": {"image": image}}, upsert=True)
        await self._database.run(self._rooms.delete_one, {"_id": room_id})

    async def find_ended(self) -> dict[str, str | None]:
        """The deleted rooms that still have messages or members, by id, and their images."""
        documents = await self._database.run(self._ended.find().to_list, None)
        return {document["_id"]: document.get("image") for document in documents}

    async def forget_ended(self, room_id: str) -> None:
        # The room itself too: a crash may have come between the two writes of `end`.
        await self._database.run(self._rooms.delete_one, {"_id": room_id})
        await self._database.run(self._ended.delete_one, {"_id": room_id})

    async def find_open(self, name: str, after: OpenPlace | None, limit: int) -> list[OpenPlace]:
        """Open rooms whose folded names contain `name`, in the order of these names."""
        query: dict[str, Any] = {"openName": {"$regex": re.escape(name)} if name else {"$exists": True}}
        if after is not None:
            beyond = [{"openName": {"$gt": after.name}}, {"openName": after.name, "_id": {"$gt": after.room_id}}]
            query = {"$and": [query, {"$or": beyond}]}
        cursor = self._rooms.find(query, {"openName": 1}).sort([("openName", 1), ("_id", 1)]).limit(limit)
        documents = await self._database.run(cursor.to_list, None)
        return [OpenPlace(document["openName"], document["_id"]) for document in documents]

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

    async def take_revs(self, room_id: str, count: int, last_mention: int) -> int | None:
        """Take the next numbers for changes in a room: those up to the one returned. None if there is no such room.

        `last_mention` is the `seq` of a message that mentions somebody after its change, 0 if none does.
        Raises `Unavailable`; the numbers may be taken then.
        """
        found = await self._database.run(
            self._rooms.find_one_and_update,
            {"_id": room_id},
            {"$inc": {"lastRev": count}, "$max": {"lastMention": last_mention}},
            {"lastRev": True},
            return_document=ReturnDocument.AFTER,
        )
        return None if found is None else int(found["lastRev"])


class MemberStore:
    """The collection `members`: one document per room and user, with their role and positions.

    Of those who left, what they would need on return stays under their key, outside the indexes of rooms and users.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._members = database.collection("members")

    async def prepare(self) -> None:
        await self._database.run(self._members.create_index, "userId")
        await self._database.run(self._members.create_index, "roomId")

    async def create(self, members: Sequence[Member]) -> None:
        """Store new members; existing ones are not changed."""
        documents = [
            {"_id": member_key(member.room_id, member.user_id), **_fixed_fields(member), **_mark_fields(member)}
            for member in members
        ]
        for start in range(0, len(documents), MEMBERS_PER_CALL):
            await self._write(self._members.insert_many, documents[start : start + MEMBERS_PER_CALL])

    async def of_rooms(self, room_ids: Collection[str]) -> list[Member]:
        documents = await self._database.find_by_keys(self._members, "roomId", room_ids)
        return [_member_from_document(document) for document in documents]

    async def of_user(self, user_id: str) -> list[Member]:
        documents: list[dict[str, Any]] = []
        cursor = self._members.find({"userId": user_id})
        while some := await self._database.run(cursor.to_list, MEMBERS_PER_CALL):
            documents.extend(some)
        return [_member_from_document(document) for document in documents]

    async def remove_all(self, room_id: str) -> None:
        """Remove the members of a room, and what is kept of those who left."""
        await self._database.run(self._members.delete_many, {"roomId": room_id})
        await self._database.run(
            self._members.delete_many, {"_id": {"$gt": member_key(room_id, ""), "$lt": f"{room_id};"}}
        )

    async def find_former(self, room_id: str, user_ids: Collection[str]) -> list[Member]:
        """Those of these users who were in the room and left, and those with marks whose membership is not stored."""
        keys = [member_key(room_id, user_id) for user_id in user_ids]
        documents = await self._database.find_by_keys(self._members, "_id", keys)
        return [
            _former_from_document(room_id, document)
            for document in documents
            if "leftUserId" in document or document.get("changedSeq") == NOT_STORED
        ]

    async def save_memberships(self, joined: Sequence[Member], left: Sequence[Member]) -> None:
        """Store members and former members as they are since their `changed_seq`. Nothing later is overwritten."""
        updates = [
            UpdateOne(
                _before(member),
                {"$set": _fixed_fields(member), "$max": _mark_fields(member), "$unset": {"leftUserId": True}},
                upsert=True,
            )
            for member in joined
        ] + [
            UpdateOne(
                _before(member),
                {
                    "$set": {"leftUserId": member.user_id, "changedSeq": member.changed_seq},
                    "$max": _mark_fields(member),
                    "$unset": {"roomId": True, "userId": True},
                },
                upsert=True,
            )
            for member in left
        ]
        if updates:
            await self._write(self._members.bulk_write, updates)

    async def save_marks(self, members: Sequence[Member]) -> None:
        """Raise the positions to those given; none is ever lowered.

        After a crash a membership may follow from the log and not be stored yet: its marks wait for it under its key.
        """
        updates = [
            UpdateOne(
                {"_id": member_key(member.room_id, member.user_id)},
                {"$max": _mark_fields(member), "$setOnInsert": {"changedSeq": NOT_STORED}},
                upsert=True,
            )
            for member in members
        ]
        if not updates:
            return
        try:
            await self._database.run(self._members.bulk_write, updates, ordered=False)
        except BulkWriteError as error:
            if any(failure["code"] != DUPLICATE_KEY for failure in error.details["writeErrors"]):
                raise
            # Stored at the same moment: now it is there.
            await self._database.run(self._members.bulk_write, updates, ordered=False)

    async def _write(self, call: Callable[..., Any], writes: Sequence[Any]) -> None:
        """Write all that is not there already."""
        try:
            await self._database.run(call, writes, ordered=False)
        except BulkWriteError as error:
            if any(failure["code"] != DUPLICATE_KEY for failure in error.details["writeErrors"]):
                raise


def member_key(room_id: str, user_id: str) -> str:
    return f"{room_id}:{user_id}"


def _before(member: Member) -> dict[str, Any]:
    """Matches what is stored of this member from before. A later one is not matched, and its key refuses an insert."""
    return {"_id": member_key(member.room_id, member.user_id), "changedSeq": {"$lt": member.changed_seq}}


def _fixed_fields(member: Member) -> dict[str, Any]:
    return {
        "roomId": member.room_id,
        "userId": member.user_id,
        "peerId": member.peer_id,
        "role": member.role,
        "joinedAt": member.joined_at,
        "joinedSeq": member.joined.seq,
        "joinedOwn": member.joined.own,
        "joinedNotices": member.joined.notices,
        "changedSeq": member.changed_seq,
    }


def _mark_fields(member: Member) -> dict[str, int]:
    return {
        "sent": member.sent,
        "lastDeliveredSeq": member.last_delivered_seq,
        "lastReadSeq": member.read.seq,
        "readOwn": member.read.own,
        "readNotices": member.read.notices,
    }


def _end_update(end: RoomEnd, message: Message) -> UpdateOne:
    values: dict[str, Any] = {"lastSeq": message.seq, "lastMessage": message_to_document(message)}
    closed: dict[str, Any] = {}
    if end.details is not None:
        values |= _detail_fields(end.details)
        closed = {} if "openName" in values else {"openName": True}
    marks = {f"cursors.{consumer}": seq for consumer, seq in end.cursors.items()}
    if end.end_rev:
        marks["endRev"] = end.end_rev
    if end.last_mention:
        marks["lastMention"] = end.last_mention
    changes: dict[str, Any] = {"$set": values}
    if marks:
        changes["$max"] = marks
    if closed:
        changes["$unset"] = closed
    return UpdateOne({"_id": end.room_id, "lastSeq": {"$lte": message.seq}}, changes)


def _detail_fields(details: RoomDetails) -> dict[str, Any]:
    fields: dict[str, Any] = {"details": msgspec.to_builtins(details)}
    if details.visibility == "OPEN":
        fields["openName"] = fold(details.name or "")
    return fields


def _room_from_document(document: dict[str, Any]) -> Room:
    last_message = document.get("lastMessage")
    details = document.get("details")
    return Room(
        id=document["_id"],
        # Older versions stored both users, the one who created it first.
        created_by=document.get("createdBy") or document["userIds"][0],
        booking_id=document["bookingId"],
        created_at=document["createdAt"],
        type=document.get("type", "DIRECT"),
        details=RoomDetails() if details is None else msgspec.convert(details, RoomDetails),
        last_seq=document["lastSeq"],
        last_message=None if last_message is None else message_from_document(last_message),
        last_rev=document.get("lastRev", 0),
        end_rev=document.get("endRev", 0),
        last_mention=document.get("lastMention", 0),
        # Older versions stored the delivered position as the end.
        cursors=document.get("cursors", {DELIVERY: document["lastSeq"]}),
    )


def _former_from_document(room_id: str, document: dict[str, Any]) -> Member:
    """Their membership is told by the log; of those whose membership was never stored, marks are all there is."""
    known = {"peerId": None, "role": "MEMBER", **document}
    return _member_from_document({**known, "roomId": room_id, "userId": document["_id"].removeprefix(f"{room_id}:")})


def _member_from_document(document: dict[str, Any]) -> Member:
    """Those of versions before 4 were in rooms of two, where nobody joins later."""
    return Member(
        room_id=document["roomId"],
        user_id=document["userId"],
        peer_id=document["peerId"],
        role=document["role"].upper(),
        joined_at=document.get("joinedAt"),
        joined=Position(document.get("joinedSeq", 0), document.get("joinedOwn", 0), document.get("joinedNotices", 0)),
        changed_seq=document.get("changedSeq", 0),
        sent=document.get("sent", 0),
        last_delivered_seq=document["lastDeliveredSeq"],
        read=Position(document["lastReadSeq"], document["readOwn"], document.get("readNotices", 0)),
    )
