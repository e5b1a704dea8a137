"""After a crash: what was stored but not delivered goes on the offline queues, and derived data is made good."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from server.errors import Unavailable
from server.room_state import RoomState, StoredMessage
from server.services.room_log.in_flight import InFlightRooms
from server.services.room_log.ports import People, Rooms
from server.storage.disk.in_flight_journal import InFlightJournal
from server.views import name_of

log = logging.getLogger(__name__)

RECOVER_PARALLEL: Final = 8


class _Recovered(NamedTuple):
    messages: int
    receivers: set[str]


class Recovery:
    """To be run before anybody is connected: whoever was connected at the crash is treated as away."""

    def __init__(
        self,
        journal: InFlightJournal,
        in_flight: InFlightRooms,
        rooms: Rooms,
        people: People,
        deliver: Callable[[Sequence[StoredMessage]], None],
        wait_queued: Callable[[], Awaitable[None]],
    ) -> None:
        self._journal = journal
        self._in_flight = in_flight
        self._rooms = rooms
        self._people = people
        self._deliver = deliver
        self._wait_queued = wait_queued

    async def recover(self) -> None:
        """Hand what may not have been delivered on for delivery, and say so in one line.

        Returns once it is queued, or Redis takes none: whoever connects next gets in one piece what waited.
        A message that did arrive before the crash may arrive once more, as `messages:offline`. Raises `Unavailable`.
        """
        try:
            room_ids = sorted(await self._journal.open())
        except Unavailable:
            log.error("what was under way at a crash is not known: the disk refuses")
            return
        if not room_ids:
            return
        bounded = asyncio.Semaphore(RECOVER_PARALLEL)

        async def recover_one(room: RoomState) -> _Recovered:
            async with bounded:
                recovered = await self._recover_room(room)
                # What waits to be queued is in memory: a few rooms at a time.
                await self._wait_queued()
                return recovered

        recovered = await asyncio.gather(*map(recover_one, await self._rooms.pin_many(room_ids)))
        log.warning(
            "mended after a crash: %d rooms with messages beyond their stored end, %d messages queued for %d people",
            sum(1 for one in recovered if one.messages),
            sum(one.messages for one in recovered),
            len(set[str]().union(*(one.receivers for one in recovered))),
        )

    async def _recover_room(self, room: RoomState) -> _Recovered:
        self._in_flight.keep(room)
        delivered = {user_id: member.delivered for user_id, member in room.members.items()}
        tail = await self._rooms.read_tail(room)
        senders = await self._people.get_many({message.sender_id for message in tail})
        # One for each message, which its delivery lets go of; the room's own is let go of here.
        room.pins += len(tail)
        self._deliver([StoredMessage(room, message, name_of(senders.get(message.sender_id))) for message in tail])
        room.pins -= 1
        receivers = {
            user_id
            for message in tail
            for user_id in room.others(message.sender_id)
            if delivered[user_id] < message.seq
        }
        return _Recovered(len(tail), receivers)
