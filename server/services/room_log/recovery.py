"""Crash recovery: consumers of the log go on where they were in the rooms that were in flight."""

import asyncio
import logging
from typing import Final, NamedTuple

from server.errors import Unavailable
from server.models import DELIVERY
from server.room_state import RoomState
from server.services.room_log.consumers import Consumers
from server.services.room_log.in_flight import InFlightRooms
from server.services.room_log.ports import RoomLoader
from server.storage.disk.in_flight_journal import InFlightJournal

log = logging.getLogger(__name__)

RECOVER_PARALLEL: Final = 8


class _Recovered(NamedTuple):
    messages: int
    receivers: set[str]


class Recovery:
    """Run before clients can connect: users who were connected at the crash are treated as offline."""

    def __init__(
        self, journal: InFlightJournal, in_flight: InFlightRooms, loader: RoomLoader, consumers: Consumers
    ) -> None:
        self._journal = journal
        self._in_flight = in_flight
        self._loader = loader
        self._consumers = consumers

    async def recover(self) -> None:
        """Read the rooms in flight to the ends of their logs, and resume the consumers there. Writes one log line.

        Undelivered messages are queued when it returns, unless Redis refuses writes, so that the next connect gets them
        together. A message that did arrive before the crash may arrive again, as `messages:offline`.
        Raises `Unavailable`.
        """
        try:
            room_ids = sorted(await self._journal.open())
        except Unavailable as error:
            log.error("in-flight journal unreadable, crash recovery skipped error=%s", error)
            return
        if not room_ids:
            return
        # What is not written to the queues is in memory, so only a few rooms are recovered at a time.
        bounded = asyncio.Semaphore(RECOVER_PARALLEL)

        async def recover_one(room: RoomState) -> _Recovered:
            async with bounded:
                return await self._recover_room(room)

        recovered = await asyncio.gather(*map(recover_one, await self._loader.pin_many(room_ids)))
        log.warning(
            "recovered after crash rooms=%d messages=%d users=%d",
            sum(1 for one in recovered if one.messages),
            sum(one.messages for one in recovered),
            len(set[str]().union(*(one.receivers for one in recovered))),
        )

    async def _recover_room(self, room: RoomState) -> _Recovered:
        self._in_flight.adopt(room)
        await self._loader.read_tail(room)
        undelivered = room.last_seq - room.cursor(DELIVERY)
        receivers = await self._consumers.resume(room)
        # From `pin_many`.
        room.pins -= 1
        return _Recovered(undelivered, receivers)
