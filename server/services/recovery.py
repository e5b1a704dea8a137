"""After a crash: what was stored but not delivered goes on the offline queues, and derived data is made good."""

import asyncio
import logging
import time
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Final, NamedTuple, Protocol

import msgspec

from server.errors import Unavailable
from server.models import Member, Message, Room, User
from server.room_state import RoomState
from server.storage.messages import MessageStore
from server.storage.rooms import MemberStore, RoomStore
from server.storage.unsettled_rooms import UnsettledRooms
from server.views import name_of, view_message

log = logging.getLogger(__name__)

# A round trip to Redis takes far less; a Redis that has just stopped answering costs one batch this much, once.
LONGEST_WAIT: Final = 0.02
MEND_PARALLEL: Final = 8


class RoomsInFlight:
    """Keeps the set of rooms that a crash would leave unsettled, written before their messages are stored.

    It costs a room one round trip to Redis when it becomes busy and a share of one when it is settled again. While
    Redis is away it costs nothing, and a crash then leaves undelivered messages to history and `sync`.
    """

    def __init__(self, store: UnsettledRooms) -> None:
        self._store = store
        self._stamps: dict[str, tuple[RoomState, int]] = {}
        self._last_stamp = 0
        self._adding: set[asyncio.Task[None]] = set()
        self._overdue: asyncio.Task[None] | None = None

    async def enter(self, rooms: Iterable[RoomState]) -> None:
        """To be awaited before messages of these rooms are stored. Waits a moment at most and never raises."""
        new = {room.id: room for room in rooms if room.id not in self._stamps}
        if not new or not self._store.is_available:
            return
        # Two additions never share a stamp, also when the clock is set back.
        self._last_stamp = stamp = max(self._last_stamp + 1, time.time_ns() // 1_000)
        self._stamps.update({room_id: (room, stamp) for room_id, room in new.items()})
        adding = asyncio.get_running_loop().create_task(self._add(new.keys(), stamp))
        self._adding.add(adding)
        adding.add_done_callback(self._adding.discard)
        if self._overdue is not None and not self._overdue.done():
            # Redis is slow to answer; what was sent to it is on its way all the same.
            return
        _, late = await asyncio.wait([adding], timeout=LONGEST_WAIT)
        self._overdue = adding if late else None

    async def leave_settled(self) -> None:
        """Forget rooms that rest: nothing on its way, and their ends stored. Raises `Unavailable`."""
        settled = {
            room_id: stamp for room_id, (room, stamp) in self._stamps.items() if room.holds == 0 and not room.is_changed
        }
        for room_id in settled:
            del self._stamps[room_id]
        await self._store.remove(settled)

    async def _add(self, room_ids: Collection[str], stamp: int) -> None:
        try:
            await self._store.add(room_ids, stamp)
        except Unavailable:
            # The next message of such a room tries again.
            for room_id in room_ids:
                if self._stamps.get(room_id, (None, 0))[1] == stamp:
                    del self._stamps[room_id]


class People(Protocol):
    async def get_many(self, user_ids: Collection[str]) -> dict[str, User]: ...


class Rooms(Protocol):
    async def access_room(self, user_id: str, room_id: str) -> RoomState: ...

    async def save_changed(self) -> int: ...


class Offline(Protocol):
    def push(self, user_id: str, payload: bytes, at: datetime | None = None) -> "asyncio.Future[None]": ...


class _Mended(NamedTuple):
    messages: int
    receivers: set[str]


class Recovery:
    """To be run before anybody is connected: whoever was connected at the crash is treated as away."""

    def __init__(
        self,
        unsettled: UnsettledRooms,
        room_store: RoomStore,
        members: MemberStore,
        messages: MessageStore,
        *,
        rooms: Rooms,
        people: People,
        offline: Offline,
    ) -> None:
        self._unsettled = unsettled
        self._room_store = room_store
        self._members = members
        self._messages = messages
        self._rooms = rooms
        self._people = people
        self._offline = offline

    async def mend(self) -> None:
        """Queue what may not have been delivered, store the ends and marks of those rooms, and say so in one line.

        A message that did arrive before the crash may arrive once more, as `messages:offline`. Never raises: with a
        store away, what a crash has left is in history and `sync` only, and that is said instead.
        """
        try:
            await self._mend()
        except Unavailable as error:
            log.warning("messages that a crash left undelivered are not queued: %s", error)

    async def _mend(self) -> None:
        stamps = await self._unsettled.read()
        if not stamps:
            return
        rooms = await self._room_store.find_many(stamps)
        marks: dict[str, list[Member]] = {room.id: [] for room in rooms}
        for mark in await self._members.of_rooms(marks):
            marks[mark.room_id].append(mark)
        bounded = asyncio.Semaphore(MEND_PARALLEL)

        async def mend_one(room: Room) -> _Mended:
            async with bounded:
                return await self._mend_room(room, marks[room.id])

        mended = await asyncio.gather(*(mend_one(room) for room in rooms))
        await self._rooms.save_changed()
        await self._unsettled.remove(stamps)
        log.warning(
            "mended after a crash: %d rooms with messages beyond their stored end, %d messages queued for %d people",
            sum(1 for one in mended if one.messages),
            sum(one.messages for one in mended),
            len(set[str]().union(*(one.receivers for one in mended))),
        )

    async def _mend_room(self, room: Room, marks: Sequence[Member]) -> _Mended:
        tail = await self._messages.read_tail(room.id, room.last_seq)
        delivered = {mark.user_id: max(mark.last_delivered_seq, mark.last_read_seq) for mark in marks}
        senders = await self._people.get_many({message.sender_id for message in tail})
        pushes = [
            (user_id, _payload(message, senders), message.sent_at)
            for message in tail
            for user_id in room.user_ids
            if user_id != message.sender_id and delivered.get(user_id, 0) < message.seq
        ]
        await asyncio.gather(*(self._offline.push(*push) for push in pushes))
        # Reads the log to its end, after which the end is stored with those of all others.
        await self._rooms.access_room(room.user_ids[0], room.id)
        return _Mended(len(tail), {user_id for user_id, _, _ in pushes})


def _payload(message: Message, senders: dict[str, User]) -> bytes:
    return msgspec.json.encode(view_message(message, name_of(senders.get(message.sender_id)), is_read=False))
