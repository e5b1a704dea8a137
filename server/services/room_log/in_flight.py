"""In-flight rooms: those with messages that a consumer of the log is not done with, mirrored in a journal on disk."""

import logging
import time
from collections.abc import Iterable
from typing import Final

from server.errors import Unavailable
from server.room_state import RoomState
from server.storage.disk.in_flight_journal import InFlightJournal

log = logging.getLogger(__name__)

# Seconds before the next attempt, so that a full disk does not cost one failed write per message.
RETRY_DELAY: Final = 1.0


class InFlightRooms:
    """Set of in-flight rooms. A room is journaled before its messages are stored.

    Costs one small write when a room becomes busy and a share of one when it is idle again.
    """

    def __init__(self, journal: InFlightJournal) -> None:
        self._journal = journal
        self._rooms: dict[str, RoomState] = {}
        self._retry_at = 0.0

    def __len__(self) -> int:
        return len(self._rooms)

    def count_behind(self, consumer: str) -> int:
        """The number of messages that a consumer is not done with."""
        return sum(max(0, room.last_seq - room.cursor(consumer)) for room in self._rooms.values())

    async def enter(self, rooms: Iterable[RoomState]) -> None:
        """Await before storing messages of these rooms. Disk errors are logged, not raised, so that sending goes on."""
        new = []
        for room in rooms:
            if room.id not in self._rooms and time.monotonic() >= self._retry_at:
                self._rooms[room.id] = room
                new.append(room.id)
        if not new:
            return
        try:
            await self._journal.add(new)
        except (Unavailable, OSError) as error:
            # After a crash, only history and sync have the last messages of these rooms.
            log.error("in-flight journal write failed rooms=%d error=%s", len(new), error)
            self._retry_at = time.monotonic() + RETRY_DELAY
            # The next message of each room tries again.
            for room_id in new:
                self._rooms.pop(room_id, None)

    def adopt(self, room: RoomState) -> None:
        """Add a room that is already in the journal of an earlier process."""
        self._rooms[room.id] = room

    async def leave_idle(self) -> None:
        """Remove rooms in which no consumer is behind and nothing is unsaved. Raises `Unavailable`."""
        idle = [room for room in self._rooms.values() if room.pins == 0 and (room.is_ended or not room.is_changed)]
        if not idle:
            return
        for room in idle:
            del self._rooms[room.id]
        await self._journal.replace(self._rooms.keys())
