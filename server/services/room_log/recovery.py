"""Crash recovery: puts messages that were stored but not delivered on the offline queues, and repairs derived data."""

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
    """Run before clients can connect: users who were connected at the crash are treated as offline."""

    def __init__(
        self,
        journal: InFlightJournal,
        in_flight: InFlightRooms,
        rooms: Rooms,
        people: People,
        deliver: Callable[[Sequence[StoredMessage]], None],
        wait_enqueued: Callable[[], Awaitable[None]],
    ) -> None:
        self._journal = journal
        self._in_flight = in_flight
        self._rooms = rooms
        self._people = people
        self._deliver = deliver
        self._wait_enqueued = wait_enqueued

    async def recover(self) -> None:
        """Deliver messages beyond the stored ends of in-flight rooms. Writes one log line.

        Returns once they are queued or Redis refuses writes, so that the next connect gets them together. A message
        that did arrive before the crash may arrive again, as `messages:offline`. Raises `Unavailable`.
        """
        try:
            room_ids = sorted(await self._journal.open())
        except Unavailable as error:
            log.error("in-flight journal unreadable, crash recovery skipped error=%s", error)
            return
        if not room_ids:
            return
        bounded = asyncio.Semaphore(RECOVER_PARALLEL)

        async def recover_one(room: RoomState) -> _Recovered:
            async with bounded:
                recovered = await self._recover_room(room)
                # Unwritten messages are in memory, so only a few rooms are recovered at a time.
                await self._wait_enqueued()
                return recovered

        recovered = await asyncio.gather(*map(recover_one, await self._rooms.pin_many(room_ids)))
        log.warning(
            "recovered after crash rooms=%d messages=%d users=%d",
            sum(1 for one in recovered if one.messages),
            sum(one.messages for one in recovered),
            len(set[str]().union(*(one.receivers for one in recovered))),
        )

    async def _recover_room(self, room: RoomState) -> _Recovered:
        self._in_flight.adopt(room)
        delivered = {user_id: member.delivered for user_id, member in room.members.items()}
        tail = await self._rooms.read_tail(room)
        senders = await self._people.get_many({message.sender_id for message in tail})
        # One pin per message, which its delivery unpins. The pin of `pin_many` ends here.
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
