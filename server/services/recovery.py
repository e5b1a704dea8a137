"""After a crash: what was stored but not delivered goes on the offline queues, and derived data is made good."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from server.drafts import Stored
from server.errors import Unavailable
from server.models import Message, User
from server.room_state import RoomState
from server.storage.unsettled_rooms import UnsettledRooms
from server.views import name_of

log = logging.getLogger(__name__)

MEND_PARALLEL: Final = 8
# A disk that refuses is not asked again for every message.
DISK_PAUSE: Final = 1.0


class RoomsInFlight:
    """Keeps the set of rooms that a crash would leave unsettled, written before their messages are stored.

    It costs one small write when a room becomes busy and a share of one when it is settled again.
    """

    def __init__(self, unsettled: UnsettledRooms) -> None:
        self._unsettled = unsettled
        self._rooms: dict[str, RoomState] = {}
        self._refused_until = 0.0

    async def enter(self, rooms: Iterable[RoomState]) -> None:
        """To be awaited before messages of these rooms are stored. Never raises: a full disk must not stop the chat."""
        new = []
        for room in rooms:
            if room.id not in self._rooms and time.monotonic() >= self._refused_until:
                self._rooms[room.id] = room
                new.append(room.id)
        if not new:
            return
        try:
            await self._unsettled.add(new)
        except (Unavailable, OSError) as error:
            log.error(
                "rooms under way cannot be noted: a crash now leaves their last messages to sync alone: %s", error
            )
            self._refused_until = time.monotonic() + DISK_PAUSE
            # Its next messages try again.
            for room_id in new:
                self._rooms.pop(room_id, None)

    def keep(self, room: RoomState) -> None:
        """Treat a room that an earlier server has entered as entered."""
        self._rooms[room.id] = room

    async def leave_settled(self) -> None:
        """Forget rooms that rest: nothing on its way, and their ends stored. Raises `Unavailable`."""
        settled = [room for room in self._rooms.values() if room.holds == 0 and not room.is_changed]
        if not settled:
            return
        for room in settled:
            del self._rooms[room.id]
        await self._unsettled.replace(self._rooms.keys())


class Rooms(Protocol):
    async def hold_many(self, room_ids: Sequence[str]) -> list[RoomState]: ...

    async def read_tail(self, state: RoomState) -> Sequence[Message]: ...


class People(Protocol):
    async def get_many(self, user_ids: Collection[str]) -> dict[str, User]: ...


class _Mended(NamedTuple):
    messages: int
    receivers: set[str]


class Recovery:
    """To be run before anybody is connected: whoever was connected at the crash is treated as away."""

    def __init__(
        self,
        unsettled: UnsettledRooms,
        in_flight: RoomsInFlight,
        rooms: Rooms,
        people: People,
        deliver: Callable[[Sequence[Stored]], None],
        wait_queued: Callable[[], Awaitable[None]],
    ) -> None:
        self._unsettled = unsettled
        self._in_flight = in_flight
        self._rooms = rooms
        self._people = people
        self._deliver = deliver
        self._wait_queued = wait_queued

    async def mend(self) -> None:
        """Hand what may not have been delivered on for delivery, and say so in one line.

        Returns once it is queued, or Redis takes none: whoever connects next gets in one piece what waited.
        A message that did arrive before the crash may arrive once more, as `messages:offline`. Raises `Unavailable`.
        """
        try:
            room_ids = sorted(await self._unsettled.open())
        except Unavailable:
            log.error("what was under way at a crash is not known: the disk refuses")
            return
        if not room_ids:
            return
        bounded = asyncio.Semaphore(MEND_PARALLEL)

        async def mend_one(room: RoomState) -> _Mended:
            async with bounded:
                mended = await self._mend_room(room)
                # What waits to be queued is in memory: a few rooms at a time.
                await self._wait_queued()
                return mended

        mended = await asyncio.gather(*map(mend_one, await self._rooms.hold_many(room_ids)))
        log.warning(
            "mended after a crash: %d rooms with messages beyond their stored end, %d messages queued for %d people",
            sum(1 for one in mended if one.messages),
            sum(one.messages for one in mended),
            len(set[str]().union(*(one.receivers for one in mended))),
        )

    async def _mend_room(self, room: RoomState) -> _Mended:
        self._in_flight.keep(room)
        delivered = {user_id: member.delivered for user_id, member in room.members.items()}
        tail = await self._rooms.read_tail(room)
        senders = await self._people.get_many({message.sender_id for message in tail})
        # One for each message, which its delivery lets go of; the room's own is let go of here.
        room.holds += len(tail)
        self._deliver([Stored(room, message, name_of(senders.get(message.sender_id))) for message in tail])
        room.holds -= 1
        receivers = {
            user_id
            for message in tail
            for user_id in room.others(message.sender_id)
            if delivered[user_id] < message.seq
        }
        return _Mended(len(tail), receivers)
