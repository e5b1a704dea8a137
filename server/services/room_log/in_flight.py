"""Which rooms have messages that a crash would leave undelivered; the journal on disk is kept in step with it."""

import logging
import time
from collections.abc import Iterable
from typing import Final

from server.errors import Unavailable
from server.room_state import RoomState
from server.storage.disk.in_flight_journal import InFlightJournal

log = logging.getLogger(__name__)

# A disk that refuses is not asked again for every message.
DISK_PAUSE: Final = 1.0


class InFlightRooms:
    """Keeps the set of rooms that a crash would leave unsettled, written before their messages are stored.

    It costs one small write when a room becomes busy and a share of one when it is settled again.
    """

    def __init__(self, journal: InFlightJournal) -> None:
        self._journal = journal
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
            await self._journal.add(new)
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
        settled = [room for room in self._rooms.values() if room.pins == 0 and not room.is_changed]
        if not settled:
            return
        for room in settled:
            del self._rooms[room.id]
        await self._journal.replace(self._rooms.keys())
