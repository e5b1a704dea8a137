"""Delivered and read receipts: marks per member that only grow, stored before they are sent."""

import asyncio
import contextlib
from collections.abc import Collection
from typing import Any, Final, Protocol

from server.concurrency.batcher import Batcher
from server.errors import NotFound
from server.events import MESSAGE_DELIVERED, MESSAGE_READ, Receipt
from server.member_state import MemberState
from server.models import Member, Message, Position, now
from server.protocol import Reader, ReadMark, ReceiptsView, wire_time
from server.realtime.fan_out import FanOut
from server.room_state import RoomState
from server.services.rooms.message_access import MessageAccess
from server.services.rooms.rooms import Rooms
from server.storage.mongo.messages import MessageStore

# Readers named in one answer.
MAX_READERS: Final = 100


class Delivered(Protocol):
    """A message that was delivered, and everything before it in its room."""

    @property
    def message_id(self) -> str: ...

    @property
    def room_id(self) -> str: ...

    @property
    def seq(self) -> int: ...


class Receipts:
    """A mark covers its message and everything before it in the room."""

    def __init__(
        self, rooms: Rooms, access: MessageAccess, store: MessageStore, marks: Batcher[Member], fan_out: FanOut
    ) -> None:
        self._rooms = rooms
        self._access = access
        self._store = store
        self._marks = marks
        self._fan_out = fan_out

    async def mark_read(self, user_id: str, message_id: str, *, room_id: str = "", skip: Any = None) -> ReadMark:
        """Raise the user's read mark to this message. Notifies all sockets of the room's members except `skip`.

        `room_id`, if given, must be the message's room. Raises `NotFound` if the user is not in the message's room.
        """
        room, message = await self._access.access_message(user_id, message_id, room_id)
        member = room.members[user_id]
        if message.seq > member.read.seq:
            with room.pinned():
                position = room.position_of(message, user_id) or await self._count_position(room, message, member)
                await self._marks.add(
                    Member(room.id, user_id, sent=member.sent, last_delivered_seq=message.seq, read=position)
                )
                is_higher = member.raise_read(position)
                if user_id not in room.members:
                    # Removed meanwhile.
                    raise NotFound("No such message")
                if is_higher:
                    self._emit_receipt(MESSAGE_READ, room, message.id, message.seq, user_id, skip)
        return ReadMark(room_id=room.id, seq=member.read.seq, unread_count=room.unread(user_id))

    async def mark_delivered(self, user_id: str, message_id: str, *, skip: Any = None) -> None:
        """Raise the user's delivered mark to this message. Raises `NotFound` if the user is not in its room."""
        room, message = await self._access.access_message(user_id, message_id)
        await self._raise_delivered(room, user_id, message.seq, message.id, skip)

    async def list_receipts(self, user_id: str, message_id: str) -> ReceiptsView:
        """Who has got and who has read a message, of the members who may see it. Raises `NotFound`."""
        room, message = await self._access.access_message(user_id, message_id)
        apart = room.apart_from(user_id)
        others = [
            room.members[other]
            for other in room.others(message.sender_id)
            if room.may_see(other, message.seq) and other not in apart
        ]
        readers = sorted(
            (member for member in others if member.read.seq >= message.seq),
            key=lambda member: (member.joined.seq, member.user_id),
        )
        return ReceiptsView(
            read_count=len(readers),
            delivered_count=sum(1 for member in others if member.delivered >= message.seq),
            read_by=[Reader(member.user_id) for member in readers[:MAX_READERS]],
        )

    async def mark_all_delivered(self, user_id: str, last: Collection[Delivered], *, skip: Any = None) -> None:
        """Raise the user's delivered marks to these messages, one per room. The marks are stored together.

        Rooms that the user is no longer in are skipped.
        """
        rooms = await self._rooms.access_many(user_id, [message.room_id for message in last])
        with contextlib.ExitStack() as pins:
            for room in rooms.values():
                pins.enter_context(room.pinned())
            await asyncio.gather(
                *(
                    self._raise_delivered(rooms[message.room_id], user_id, message.seq, message.message_id, skip)
                    for message in last
                    if message.room_id in rooms
                )
            )

    async def _raise_delivered(self, room: RoomState, user_id: str, seq: int, message_id: str, skip: Any) -> None:
        member = room.members.get(user_id)
        # None: removed meanwhile.
        if member is None or seq <= member.delivered:
            return
        with room.pinned():
            await self._marks.add(Member(room.id, user_id, last_delivered_seq=seq))
            if member.raise_delivered(seq) and user_id in room.members:
                self._emit_receipt(MESSAGE_DELIVERED, room, message_id, seq, user_id, skip)

    async def _count_position(self, room: RoomState, message: Message, member: MemberState) -> Position:
        """The position of a message for a member who sent some without reading what came before them."""
        read, last, sent = member.read, room.last_seq, member.sent
        # What is counted never changes, as the log only grows. The shorter side takes less.
        if message.seq - read.seq <= last - message.seq:
            own = read.own + await self._store.count_own(room.id, member.user_id, read.seq, message.seq)
        else:
            own = sent - await self._store.count_own(room.id, member.user_id, message.seq, last)
        return Position(message.seq, own, message.notices)

    def _emit_receipt(self, event: str, room: RoomState, message_id: str, seq: int, user_id: str, skip: Any) -> None:
        receipt = Receipt(room_id=room.id, message_id=message_id, seq=seq, user_id=user_id, at=wire_time(now()))
        receivers: Collection[str] = room.members if room.tells_receipts else (user_id,)
        apart = room.apart_from(user_id)
        if apart:
            receivers = [receiver for receiver in receivers if receiver not in apart]
        self._fan_out.emit(receivers, event, receipt, skip=skip)
