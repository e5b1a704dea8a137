"""Delivered and read receipts: marks per member that only grow, stored before they are shown to anybody."""

import asyncio
from collections.abc import Iterable
from typing import Any, Protocol

from server.errors import NotFound
from server.models import Member, Message, now
from server.protocol import MESSAGE_DELIVERED, MESSAGE_READ, ReadMark, Receipt, wire_time
from server.room_state import RoomState


class Rooms(Protocol):
    async def access_room(self, user_id: str, room_id: str) -> RoomState: ...


class Log(Protocol):
    def remembered(self, message_id: str) -> Message | None: ...


class Store(Protocol):
    async def find(self, message_id: str) -> Message | None: ...


class Marks(Protocol):
    def add(self, item: Member) -> "asyncio.Future[None]": ...


class Sockets(Protocol):
    def emit(self, user_ids: Iterable[str], event: str, payload: Any, *, skip: Any = None) -> None: ...


class Receipts:
    """A mark covers its message and everything before it in the room."""

    def __init__(self, rooms: Rooms, log: Log, store: Store, marks: Marks, sockets: Sockets) -> None:
        self._rooms = rooms
        self._log = log
        self._store = store
        self._marks = marks
        self._sockets = sockets

    async def mark_read(self, user_id: str, message_id: str, *, room_id: str = "", skip: Any = None) -> ReadMark:
        """Raise the user's read mark to this message and tell everybody else in the room, and the user's other sockets.

        `room_id`, where given, must be the message's room. Raises `NotFound` for a message of others.
        """
        room, message = await self._access_message(user_id, message_id, room_id)
        if message.seq > room.members[user_id].read:
            own = room.own_upto(message, user_id)
            mark = Member(room.id, user_id, last_read_seq=message.seq, last_delivered_seq=message.seq, read_own=own)
            with room.held():
                await self._marks.add(mark)
                if room.raise_read(user_id, message.seq, own):
                    self._tell(MESSAGE_READ, room, message, user_id, skip)
        return ReadMark(room_id=room.id, seq=room.members[user_id].read, unread_count=room.unread(user_id))

    async def mark_delivered(self, user_id: str, message_id: str, *, skip: Any = None) -> None:
        """Raise the user's delivered mark to this message. Raises `NotFound` for a message of others."""
        room, message = await self._access_message(user_id, message_id, "")
        if message.seq > room.members[user_id].delivered:
            with room.held():
                await self._marks.add(Member(room.id, user_id, last_delivered_seq=message.seq))
                if room.raise_delivered(user_id, message.seq):
                    self._tell(MESSAGE_DELIVERED, room, message, user_id, skip)

    async def _access_message(self, user_id: str, message_id: str, room_id: str) -> tuple[RoomState, Message]:
        """The one gate to messages by id."""
        message = self._log.remembered(message_id) or await self._store.find(message_id)
        if message is None or (room_id and message.room_id != room_id):
            raise NotFound("No such message")
        try:
            return await self._rooms.access_room(user_id, message.room_id), message
        except NotFound:
            raise NotFound("No such message") from None

    def _tell(self, event: str, room: RoomState, message: Message, user_id: str, skip: Any) -> None:
        receipt = Receipt(room_id=room.id, message_id=message.id, seq=message.seq, user_id=user_id, at=wire_time(now()))
        self._sockets.emit(room.user_ids, event, receipt, skip=skip)
